"""What gin binds against what is called: types, what is missing, what is unused."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin

from byol_keras.config.graph import (
    CONSTANT,
    MACRO,
    Use,
    bound,
    function_of,
    is_reference,
    resolved,
    result_of,
    walk,
)
from byol_keras.config.types import Returned, accepts, describe, parameters_of, type_of
from byol_keras.runtime.errors import Findings

# Bindings that a recipe may hide, or have replaced: see `gin_syntax.Reading`.
_defaults: set[tuple[str, str, str]] = set()
_replaced: set[tuple[str, str, str]] = set()


def set_defaults(
    defaults: set[tuple[str, str, str]], replaced: set[tuple[str, str, str]]
) -> None:
    """Tells which of the bindings that gin holds come from included files only.

    Args:
        defaults, replaced: as of `gin_syntax.Reading`.
    """
    for kept, given in ((_defaults, defaults), (_replaced, replaced)):
        kept.clear()
        kept.update(given)


def default_names() -> set[str]:
    """The bindings from included files only, as a user writes them."""
    return {_name(*binding) for binding in _defaults}


def replaced_names() -> set[str]:
    """Those of them that need no use, as what used them has been replaced."""
    return {_name(*binding) for binding in _replaced}


def find_mistakes(
    root: str,
    given: Sequence[str] = (),
    calls: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Lines on bindings of a wrong type, missing ones, and those that nothing uses.

    Args:
        root: whole name of the function that the command line calls.
        given: names of its arguments that the command line gives.
        calls: argument of the root that is a function -> names of the arguments that
            the root calls it with.
    """
    uses = walk(root)
    wrong = [wrong_type(*binding) for binding in _bindings()]
    found = Findings([line for line in wrong if line])
    found.add([*missing(Use((), root, True, frozenset()), given)])
    for use in uses:
        if use.called and use.selector not in (root, MACRO, CONSTANT):
            found.add([*missing(use, ())])
    for parameter, names in (calls or {}).items():
        reference = bound((), root).get(parameter, ("", None))[1]
        found.add([*_wrong_calls(root, parameter, resolved(reference), names)])
    found.add([*_unused(uses)])
    return found.lines


def bind_everywhere(selector: str, parameter: str, value: Any) -> None:
    """Binds a parameter for all calls of a function that the configuration names."""
    scopes = [scope for scope, name in gin.config._CONFIG if name == selector]
    bound_in = [s for s in scopes if parameter in gin.config._CONFIG[s, selector]]
    with gin.unlock_config():
        for scope in {*bound_in, ""} if scopes else ():
            gin.bind_parameter((scope, selector, parameter), value)


def _bindings() -> Iterator[tuple[str, str, str, Any]]:
    for (scope, selector), parameters in gin.config._CONFIG.items():
        for name, value in parameters.items():
            yield scope, selector, name, value


def _name(scope, selector, parameter):
    """A binding as a user writes it."""
    if selector == MACRO:
        return scope
    short = gin.config._REGISTRY.minimal_selector(selector)
    return f"{scope}/{short}.{parameter}" if scope else f"{short}.{parameter}"


def wrong_type(scope: str, selector: str, parameter: str, value: Any) -> str | None:
    """A line on a binding whose value is not of the parameter's type."""
    if selector == MACRO:
        return None
    name, value = _name(scope, selector, parameter), resolved(value)
    if is_reference(value) and value.evaluate and parameter.endswith("_fn"):
        return f"{name} must be a function, as @name without (). Received: {value!r}"
    kind = type_of(function_of(selector), parameter)
    if not accepts(kind, _stand_in(value)):
        return f"{name} must be {describe(kind)}. Received: {value!r}"
    return None


def missing(use: Use, given: Iterable[str]) -> Iterator[str]:
    """Lines on arguments of a use that have no value, beside the given ones."""
    parameters = parameters_of(function_of(use.selector)) or {}
    values = bound(use.scopes, use.selector)
    for name, parameter in parameters.items():
        has_default = parameter.default not in (parameter.empty, gin.REQUIRED)
        if not has_default and name not in values and name not in given:
            name = _name("/".join(use.scopes), use.selector, name)
            yield f"{name} must be bound. Received: nothing"


def _wrong_calls(root, parameter, reference, names):
    """Lines on a function that the root calls with arguments of these names."""
    if not is_reference(reference) or reference.evaluate:
        return
    function = reference.configurable.wrapped
    known = parameters_of(function)
    for name in names:
        if known is not None and name not in known:
            shown = _name("", root, parameter)
            yield f"{shown} must be a function of {name}. Received: {reference!r}"
            return
    use = Use(tuple(reference.scopes), reference.config_key[1], False, frozenset())
    yield from missing(use, names)


def _unused(uses):
    used = set()
    for use in uses:
        for name, (scope, _) in bound(use.scopes, use.selector).items():
            used.add((scope, use.selector, name))
            outer = {(s, use.selector, name) for s in _outer_scopes(scope)}
            used |= outer & _defaults
    for scope, selector, parameter, _ in _bindings():
        is_used = (scope, selector, parameter) in used | _replaced
        if not is_used and not _is_called_by_code(selector):
            yield unused_line(_name(scope, selector, parameter))


def _outer_scopes(scope):
    scopes = scope.split("/") if scope else []
    return {"/".join(scopes[:depth]) for depth in range(len(scopes))}


def unused_line(name: str) -> str:
    """What is said of a binding that nothing uses."""
    return (
        "every gin binding must be used by what the configuration builds. "
        f"Received: {name}, which nothing uses"
    )


def _is_called_by_code(selector):
    """Whether code may call it with gin's bindings, without any reference to it.

    Of what is decorated by `gin.configurable` its module holds gin's wrapper.
    """
    function = function_of(selector)
    module = sys.modules.get(function.__module__)
    wrapper = gin.config._REGISTRY[selector].wrapper
    return getattr(module, function.__name__, None) is wrapper


def _stand_in(value):
    """The value with references replaced by what `value_types.accepts` can judge."""
    value = resolved(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_stand_in, value))
    if not is_reference(value):
        return value
    function = value.configurable.wrapped
    return Returned(result_of(function)) if value.evaluate else function
