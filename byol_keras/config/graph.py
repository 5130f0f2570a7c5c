"""The graph of a gin configuration: what refers to what, and what is used.

This module and `syntax` are the only ones that read gin's private state.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import gin

from byol_keras.config.types import parameters_of

CONSTANT, MACRO = "gin.constant", "gin.macro"
Scopes = tuple[str, ...]
# Scope, selector and parameter.
Binding = tuple[str, str, str]


class Use(NamedTuple):
    """A function or class that the configuration calls or passes on.

    Args:
        scopes: of the call.
        selector: registered name, with its module.
        called: bool. Whether gin itself calls it, without arguments.
        values: parameter -> value, references unresolved.
        parts: scopes and selectors of the calls among its values.
    """

    scopes: Scopes
    selector: str
    called: bool
    values: dict[str, Any]
    parts: frozenset[tuple[Scopes, str]]


def walk(
    root: str,
    scopes: Iterable[str] = (),
    values_of: Callable[[Scopes, str], dict[str, Any]] | None = None,
) -> list[Use]:
    """Everything that a call refers to, parts before the calls that contain them.

    Args:
        root: selector of the call.
        scopes: of the call.
        values_of: (scopes, selector) -> parameter -> value. Defaults to the bindings
            and to defaults that are configurable functions.
    """
    values_of = values_of or _bound_or_default
    # Functions that read their bindings when code calls them; some are defaults.
    registered = gin.config._REGISTRY.items()
    wrappers = {id(x.wrapper): name for name, x in registered}
    uses, seen = [], set()

    def visit(scopes, selector, called, caller):
        # The value of a macro is evaluated in the scope that has the macro's name, but
        # a function in it is called in the scope of the macro's user.
        is_macro = selector == MACRO
        visited = (scopes, selector, called, is_macro and caller)
        if visited in seen:
            return
        seen.add(visited)
        values, parts = values_of(scopes, selector), set()
        inner = caller if is_macro else scopes
        for value in values.values():
            if id(value) in wrappers:
                visit(scopes, wrappers[id(value)], False, inner)
        for reference in gin.config.iterate_references(values):
            inherited = scopes if reference.evaluate else inner
            part = (tuple(reference.scopes) or inherited, reference.config_key[1])
            visit(*part, reference.evaluate, inner)
            if reference.evaluate:
                parts.add(part)
        uses.append(Use(scopes, selector, called, values, frozenset(parts)))

    visit(tuple(scopes), root, True, ())
    return uses


def _bound_or_default(scopes, selector):
    parameters = parameters_of(function_of(selector)) or {}
    defaults = {
        name: p.default for name, p in parameters.items() if callable(p.default)
    }
    values = {name: value for name, (_, value) in bound(scopes, selector).items()}
    return defaults | values


def bound(scopes: Iterable[str], selector: str) -> dict[str, tuple[str, Any]]:
    """Parameter -> the scope whose binding applies in these scopes, and its value.

    A binding of an inner scope hides those of outer ones.
    """
    scopes, found = list(scopes), {}
    for depth in range(len(scopes) + 1):
        scope = "/".join(scopes[:depth])
        for name, value in gin.config._CONFIG.get((scope, selector), {}).items():
            found[name] = (scope, value)
    return found


def value_of(root: str, parameter: str) -> Any:
    """The value that a parameter of the root is bound to, or its default.

    A reference to a function is returned as that function.

    Raises:
        ValueError: if there is neither.
    """
    function, found = function_bound(root, parameter), bound((), root)
    if function:
        return function.scoped_configurable_fn
    if parameter in found:
        return resolved(found[parameter][1])
    default = inspect.signature(function_of(root)).parameters[parameter].default
    if not has_value(default):
        raise ValueError(missing_line("", root, parameter))
    return default


def function_bound(root: str, parameter: str) -> Any:
    """The reference to a function that a parameter of the root is bound to, or None."""
    _, value = bound((), root).get(parameter, ("", None))
    value = resolved(value)
    return value if is_reference(value) and not value.evaluate else None


def has_value(default: Any) -> bool:
    """Whether a parameter with this default needs no binding."""
    return default is not inspect.Parameter.empty and default is not gin.REQUIRED


def missing_line(scope: str, selector: str, parameter: str) -> str:
    """The message for a parameter that has neither a binding nor a default."""
    return f"{name_of(scope, selector, parameter)} must be bound. Received: nothing"


def name_of(scope: str, selector: str, parameter: str) -> str:
    """A binding as it is written in a gin file."""
    if selector == MACRO:
        return scope
    short = gin.config._REGISTRY.minimal_selector(selector)
    return f"{scope}/{short}.{parameter}" if scope else f"{short}.{parameter}"


def function_of(selector: str) -> Callable:
    """The function or class that is registered under a selector."""
    return gin.config._REGISTRY[selector].wrapped


def is_called_by_code(selector: str) -> bool:
    """Whether code can call it with its bindings, without a reference in gin.

    The module of a function that `gin.configurable` decorates holds gin's wrapper.
    """
    function = function_of(selector)
    module = sys.modules.get(function.__module__)
    wrapper = gin.config._REGISTRY[selector].wrapper
    return getattr(module, function.__name__, None) is wrapper


def resolved(value: Any, kinds: Collection[str] = (MACRO, CONSTANT)) -> Any:
    """The value, with macros and constants replaced by what they stand for."""

    def resolve(leaf):
        if not is_reference(leaf) or leaf.config_key[1] not in kinds:
            return leaf
        if leaf.config_key[1] == CONSTANT:
            return leaf.scoped_configurable_fn()
        return resolved(gin.config._CONFIG[leaf.config_key]["value"], kinds)

    return map_leaves(resolve, value)


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """The value, with everything in its lists, tuples and dicts changed."""
    if type(value) in (list, tuple):
        return type(value)([map_leaves(change, item) for item in value])
    if type(value) is dict:
        return {key: map_leaves(change, item) for key, item in value.items()}
    return change(value)


def is_reference(value: Any) -> bool:
    """Whether a value is `@name` or `@name()`."""
    return isinstance(value, gin.config.ConfigurableReference)


def result_of(function: Callable) -> type | None:
    """The class of what a function or class returns; None if it is unknown."""
    if inspect.isclass(function):
        return function
    returned = inspect.signature(function).return_annotation
    is_known = inspect.isclass(returned) and returned is not inspect.Signature.empty
    return returned if is_known else None


def all_bindings() -> Iterator[tuple[str, str, str, Any]]:
    """Scope, selector, parameter and value of every binding."""
    for (scope, selector), parameters in gin.config._CONFIG.items():
        for name, value in parameters.items():
            yield scope, selector, name, value


def used_by(uses: Iterable[Use]) -> set[Binding]:
    """The bindings that apply in these calls."""
    return {
        (scope, use.selector, name)
        for use in uses
        for name, (scope, _) in bound(use.scopes, use.selector).items()
    }


def used_so_far() -> set[Binding]:
    """The bindings that calls have used, or that functions passed to them will use."""
    used, later = set(), []
    called = {selector for _, selector in gin.config._OPERATIVE_CONFIG}
    for (scope, selector), values in gin.config._OPERATIVE_CONFIG.items():
        scopes = scope.split("/") if scope else []
        for name, (supplier, value) in bound(scopes, selector).items():
            if name in values:
                used.add((supplier, selector, name))
                for reference in gin.config.iterate_references(value):
                    function = reference.config_key[1]
                    if function not in called:
                        later += walk(function, reference.scopes or scopes)
    return used | used_by(later)


def operative_values(
    root: str, parameters: Collection[str], without: Collection[str] = ()
) -> dict[str, str]:
    """The values in use, defaults too, that some parameters of a called root reach.

    Args:
        root: selector of a function that has been called.
        parameters: of the root.
        without: names of parameters that are left out, of all functions.

    Returns:
        `scope/name.parameter` -> value as gin writes it, with macros resolved.
    """

    def values_of(scopes, selector):
        used = gin.config._OPERATIVE_CONFIG.get(("/".join(scopes), selector), {})
        names = parameters if selector == root else used.keys() - {*without}
        return {name: used[name] for name in names if name in used}

    found = {}
    for use in walk(root, values_of=values_of):
        if use.selector not in (MACRO, CONSTANT):
            found["/".join(use.scopes), use.selector] = resolved(use.values, {MACRO})
    return _written(found)


def lines_for(
    scopes: Iterable[str], selector: str, others: Collection[str]
) -> list[str]:
    """The bindings as lines of gin, except those that only other functions refer to.

    Args:
        scopes, selector: of the call that the lines are for.
        others: selectors of functions whose bindings are left out.
    """

    def reached(scopes, selector):
        for use in walk(selector, scopes):
            for depth in range(len(use.scopes) + 1):
                yield "/".join(use.scopes[:depth]), use.selector

    config, left_out = gin.config._CONFIG, set()
    for scope, name in config:
        if name in others:
            left_out |= {*reached(scope.split("/") if scope else (), name)}
    left_out -= {*reached(scopes, selector)}
    kept = {key: values for key, values in config.items() if key not in left_out}
    return [f"{name} = {value}" for name, value in _written(kept).items()]


def _written(configuration: Mapping) -> dict[str, str]:
    """Names and values of bindings as gin writes them, in gin's order."""
    text = gin.config._config_str(configuration, max_line_length=10**6)
    pairs = [line.partition(" = ") for line in text.splitlines() if line[:1] != "#"]
    return {name: value for name, equals, value in pairs if equals}


def declare(selector: str, signature: Callable) -> None:
    """Lets gin files bind a function that the running command does not have.

    Args:
        selector: of the function. If it is registered, nothing happens.
        signature: a function with its parameters and defaults.
    """
    if selector not in gin.config._REGISTRY:
        module, _, name = selector.rpartition(".")
        gin.external_configurable(signature, name, module=module)
