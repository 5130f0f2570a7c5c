"""Gin bindings against the functions they are for: types, missing and unused ones."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import gin

from byol_keras.config import graph
from byol_keras.config.graph import Use
from byol_keras.config.types import Returned, accepts, describe, parameters_of, type_of
from byol_keras.runtime.errors import Findings

# Bindings that need no use: those that only included files have.
_spare: set[graph.Binding] = set()


def forgive(spare: Collection[graph.Binding]) -> None:
    """Declares the bindings that need no use; an earlier declaration ends."""
    _spare.clear()
    _spare.update(spare)


def find_mistakes(
    root: str, calls: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Messages on bindings of a wrong type, missing ones and unused ones.

    Args:
        root: selector of the function that the command line calls. Gin binds its
            keyword-only arguments; the command line passes the others.
        calls: argument of the root that is a function -> names of the arguments that
            the root calls it with.
    """
    package = root.partition(".")[0]
    wrong = [wrong_type(package, *binding) for binding in graph.all_bindings()]
    found = Findings([line for line in wrong if line])
    uses = graph.walk(root)
    passed = [
        name
        for name, parameter in (parameters_of(graph.function_of(root)) or {}).items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    found.add([*missing(uses[-1], passed)])  # the root is the last one
    for use in uses[:-1]:
        if use.called:
            found.add([*missing(use)])
    for parameter, names in (calls or {}).items():
        found.add([*_wrong_calls(root, parameter, names)])
    used = graph.used_by(uses)
    found.add([unused_line(name) for name in unused(used, called_by_code=True)])
    return found.lines


def wrong_type(
    package: str, scope: str, selector: str, parameter: str, value: Any
) -> str | None:
    """The message on a binding whose value is not of the parameter's type, if so.

    Args:
        package: see `types.type_of`.
        scope, selector, parameter, value: the binding.
    """
    if selector == graph.MACRO:
        return None
    name, value = graph.name_of(scope, selector, parameter), graph.resolved(value)
    if graph.is_reference(value) and value.evaluate and parameter.endswith("_fn"):
        return f"{name} must be a function, as @name without (). Received: {value!r}"
    kind = type_of(graph.function_of(selector), parameter, package)
    if not accepts(kind, graph.map_leaves(_stand_in, value)):
        return f"{name} must be {describe(kind)}. Received: {value!r}"
    return None


def _stand_in(value):
    """What `types.accepts` can judge in place of a reference."""
    if not graph.is_reference(value):
        return value
    function = value.configurable.wrapped
    return Returned(graph.result_of(function)) if value.evaluate else function


def missing(use: Use, passed: Collection[str] = ()) -> Iterator[str]:
    """Messages on arguments of a call that are neither bound, nor passed by code."""
    parameters = parameters_of(graph.function_of(use.selector)) or {}
    values = graph.bound(use.scopes, use.selector)
    for name, parameter in parameters.items():
        if name not in {*values, *passed} and not graph.has_value(parameter.default):
            yield graph.missing_line("/".join(use.scopes), use.selector, name)


def _wrong_calls(root, parameter, names):
    """Messages on a function that the root calls with arguments of these names."""
    reference = graph.function_bound(root, parameter)
    if reference is None:
        return
    known = parameters_of(reference.configurable.wrapped)
    for name in names:
        if known is not None and name not in known:
            shown = graph.name_of("", root, parameter)
            yield f"{shown} must be a function of {name}. Received: {reference!r}"
            return
    use = Use(tuple(reference.scopes), reference.config_key[1], False, {}, frozenset())
    yield from missing(use, names)


def unused(
    used: Collection[graph.Binding],
    called_by_code: bool = False,
    with_included: bool = False,
) -> list[str]:
    """Names of the bindings that are not used and are not forgiven.

    Args:
        used: the others.
        called_by_code: whether to forgive bindings of functions that code can call.
        with_included: whether to list those that only included files have, too.
    """
    return [
        graph.name_of(scope, selector, parameter)
        for scope, selector, parameter, _ in graph.all_bindings()
        if (scope, selector, parameter) not in used
        and (with_included or (scope, selector, parameter) not in _spare)
        and not (called_by_code and graph.is_called_by_code(selector))
    ]


def unused_line(name: str) -> str:
    """The message on a binding that nothing uses."""
    return (
        "every gin binding must be used by what the configuration builds. "
        f"Received: {name}, which nothing uses"
    )


def bind_everywhere(selector: str, parameter: str, value: Any) -> None:
    """Binds a parameter for all calls of a function that the configuration names."""
    found = [b[:3:2] for b in graph.all_bindings() if b[1] == selector]
    scopes = {scope for scope, name in found if name == parameter} | {""}
    with gin.unlock_config():
        for scope in scopes if found else ():
            gin.bind_parameter((scope, selector, parameter), value)
