"""The graph of references in a gin configuration."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gin

from byol_keras.config.types import parameters_of

CONSTANT, MACRO = "gin.constant", "gin.macro"


class Use(NamedTuple):
    """Something that gin calls for the configuration, or hands on to be called.

    Args:
        scopes: in which it is called.
        selector: its whole name, as gin has registered it.
        called: bool. Whether gin itself calls it, without arguments.
        parts: scopes and selectors of what its arguments are made of.
    """

    scopes: tuple[str, ...]
    selector: str
    called: bool
    parts: frozenset[tuple[tuple[str, ...], str]]


def walk(root: str) -> list[Use]:
    """Everything that a call of the root refers to, parts before what they are in."""
    uses, seen = [], set()
    # A default may be what `gin.get_configurable` returns.
    wrappers = {x.wrapper: name for name, x in gin.config._REGISTRY.items()}

    def visit(scopes, selector, called):
        if (scopes, selector, called) in seen:
            return
        seen.add((scopes, selector, called))
        parts = set()
        values = bound(scopes, selector)
        for name, parameter in (parameters_of(function_of(selector)) or {}).items():
            is_function = callable(parameter.default)
            if name not in values and is_function and parameter.default in wrappers:
                visit(scopes, wrappers[parameter.default], False)
        for _, value in values.values():
            for reference in gin.config.iterate_references(value):
                # One without a scope is called in that of its caller.
                part = (tuple(reference.scopes) or scopes, reference.config_key[1])
                visit(*part, reference.evaluate)
                if reference.evaluate:
                    parts.add(part)
        uses.append(Use(scopes, selector, called, frozenset(parts)))

    visit((), root, True)
    return uses


def bound(scopes: Iterable[str], selector: str) -> dict[str, tuple[str, Any]]:
    """Parameter -> the scope whose binding counts in these scopes, and its value.

    A binding of an inner scope hides those of outer ones.
    """
    scopes, found = list(scopes), {}
    for depth in range(len(scopes) + 1):
        scope = "/".join(scopes[:depth])
        for name, value in gin.config._CONFIG.get((scope, selector), {}).items():
            found[name] = (scope, value)
    return found


def value_of(root: str, parameter: str) -> Any:
    """What a parameter of the root is bound to, else its default.

    A reference that is not to be called comes as the function that it refers to.
    """
    found = bound((), root)
    if parameter not in found:
        return parameters_of(function_of(root))[parameter].default
    value = resolved(found[parameter][1])
    if is_reference(value) and not value.evaluate:
        return value.scoped_configurable_fn
    return value


def function_of(selector: str) -> Callable:
    """The function or class that is registered under a whole name."""
    return gin.config._REGISTRY[selector].wrapped


def resolved(value: Any) -> Any:
    """The value, macros and constants replaced by what they stand for."""
    while is_reference(value) and value.config_key[1] in (MACRO, CONSTANT):
        if value.config_key[1] == CONSTANT:
            return value.scoped_configurable_fn()
        value = gin.config._CONFIG[value.config_key]["value"]
    return value


def is_reference(value: Any) -> bool:
    """Whether a value is `@name` or `@name()`."""
    return isinstance(value, gin.config.ConfigurableReference)


def result_of(function: Callable) -> type | None:
    """The type of what a function returns or a class makes; None if that is unknown."""
    if inspect.isclass(function):
        return function
    returned = inspect.signature(function).return_annotation
    is_known = inspect.isclass(returned) and returned is not inspect.Signature.empty
    return returned if is_known else None
