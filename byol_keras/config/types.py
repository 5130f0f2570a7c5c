"""Values of a gin binding against the type of the argument that they are for."""

import collections.abc
import inspect
import os
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

_NAMES = {
    int: ("an int", "ints"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    str: ("a string", "strings"),
    type(None): ("None", "None"),
}
_DOCUMENTED = {"int": int, "float": float, "bool": bool, "str": str}
_SEQUENCES = (list, tuple, collections.abc.Sequence)
# Type -> the types of literals that stand for it.
_INSTEAD = {
    float: (int, float),
    os.PathLike: str,
    list: (list, tuple),
    tuple: (list, tuple),
    collections.abc.Sequence: (list, tuple),
}
_UNKNOWN = inspect.Parameter("_", inspect.Parameter.KEYWORD_ONLY, default=None)


class Returned(NamedTuple):
    """Stands for what a call will return.

    Args:
        kind: a class, or None if it is not known.
    """

    kind: type | None


def parameters_of(function: Callable) -> dict[str, inspect.Parameter] | None:
    """The arguments that a function or a class takes; None if it takes any name.

    Those of a class include its bases', to which it hands on what it does not know.
    """
    if not inspect.isclass(function):
        found = inspect.signature(function).parameters
        return None if _takes_any(found) else dict(found)
    found = {}
    for owner in function.__mro__[:-1]:  # the last one is `object`
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters
        is_base = bool(found)
        for name, parameter in list(parameters.items())[1:]:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                # What a base needs beyond this, the class itself gives it.
                default = None if is_base else parameter.default
                found.setdefault(name, parameter.replace(default=default))
        if not _takes_any(parameters):
            break
    return found


def type_of(function: Callable, parameter: str) -> Any:
    """The type of an argument: its annotation, or what docstring and default tell.

    Args:
        function: a function or a class.
        parameter: str. Name of the argument.

    Returns:
        A type, as annotations have it; `typing.Any` where nothing is known.
    """
    found = (parameters_of(function) or {}).get(parameter, _UNKNOWN)
    if found.annotation is not inspect.Parameter.empty:
        return found.annotation
    return _documented(function, parameter) or _type_of_default(function, found.default)


def accepts(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; ints count as floats, bools count as neither.

    Args:
        kind: a type, as annotations have it.
        value: a literal, a function or class that is handed on, or `Returned`.
    """
    if kind is Any:
        return True
    if len(_options(kind)) > 1:
        return any(accepts(option, value) for option in _options(kind))
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if not inspect.isclass(origin):
        return True
    classes = _INSTEAD.get(origin, origin)
    if isinstance(value, Returned):
        return value.kind is None or issubclass(value.kind, classes)
    if isinstance(value, bool):
        return origin is bool
    if not isinstance(value, classes):
        return False
    return not _is_sequence(origin) or _accepts_items(inner, value)


def describe(kind: Any) -> str:
    """The type in words, as "an int", "a list of numbers" or "a string or None"."""
    return " or ".join(dict.fromkeys(_words(option)[0] for option in _options(kind)))


def _options(kind):
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _words(kind):
    """A type in words, in the singular and in the plural."""
    if kind in _NAMES:
        return _NAMES[kind]
    if kind is os.PathLike:
        return _NAMES[str]
    inner = [option for option in typing.get_args(kind) if option is not ...]
    origin = typing.get_origin(kind) or kind
    if origin is collections.abc.Callable:
        return "a function, as @name", "functions, as @name"
    if inspect.isclass(origin) and issubclass(origin, collections.abc.Mapping):
        return "a dict", "dicts"
    if _is_sequence(origin):
        options = [_words(o)[1] for item in inner[:1] for o in _options(item)]
        ending = f" of {' or '.join(dict.fromkeys(options))}" if options else ""
        count = (
            f"{len(inner)}-" if origin is tuple and ... not in (inner or [...]) else ""
        )
        name = "tuple" if count else "list"
        return f"a {count}{name}{ending}", f"{count}{name}s{ending}"
    name = getattr(kind, "__name__", str(kind))
    return f"{name}, as @name()", f"{name}s, as @name()"


def _takes_any(parameters):
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _is_sequence(kind):
    return kind in _SEQUENCES


def _accepts_items(inner, values):
    if not inner:
        return True
    if len(inner) > 1 and ... not in inner:
        return len(values) == len(inner) and all(map(accepts, inner, values))
    return all(accepts(inner[0], value) for value in values)


def _documented(function, parameter):
    """The type that "name: float in 0..1." in the docstring tells, if it is one."""
    pattern = rf"^\s*(?:\w+, )*{parameter}(?:, \w+)*: (int|float|bool|str)\b(?!,? or)"
    found = re.search(pattern, inspect.getdoc(function) or "", re.MULTILINE)
    return _DOCUMENTED[found[1]] if found else None


def _type_of_default(function, default):
    """What the default tells: layers of keras-cv take ranges in place of numbers."""
    if isinstance(default, (bool, str)):
        return type(default)
    numbers = collections.abc.Sequence[float]
    if isinstance(default, (int, float)):
        return float | numbers
    if isinstance(default, (list, tuple)) and default:
        ours = function.__module__.startswith("byol_keras")
        sequence = collections.abc.Sequence
        return sequence if ours else sequence | float
    return Any
