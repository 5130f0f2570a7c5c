"""Types of arguments, and whether the value of a gin binding is of such a type."""

import collections.abc
import inspect
import os
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

_NOUNS = {
    int: "int{s}",
    float: "number{s}",
    str: "string{s}",
    os.PathLike: "string{s}",
    bool: "True or False",
    type(None): "None",
    collections.abc.Callable: "function{s}, as @name",
}
_DOCUMENTED = {"int": int, "float": float, "bool": bool, "str": str}
_SEQUENCES = (list, tuple, collections.abc.Sequence)
# Type -> the types of literals that it accepts.
_LITERALS = {
    float: (int, float),
    os.PathLike: str,
    **dict.fromkeys(_SEQUENCES, (list, tuple)),
}


class Returned(NamedTuple):
    """Stands for the value that a call will return.

    Args:
        kind: its class, or None if it is not known.
    """

    kind: type | None


def parameters_of(function: Callable) -> dict[str, inspect.Parameter] | None:
    """The arguments of a function or class; None for a function that takes any name.

    A class has those of its bases as well, if its constructor passes keywords on.
    """
    if not inspect.isclass(function):
        found = dict(inspect.signature(function).parameters)
        return None if _takes_any(found) else found
    constructors = [x.__init__ for x in function.__mro__ if "__init__" in vars(x)]
    found = {}
    for constructor in constructors[:-1]:  # the last one is that of `object`
        parameters, is_base = inspect.signature(constructor).parameters, bool(found)
        for name, parameter in list(parameters.items())[1:]:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                # The class itself passes what a base requires.
                own = parameter.replace(default=None) if is_base else parameter
                found.setdefault(name, own)
        if not _takes_any(parameters):
            break
    return found


def type_of(function: Callable, parameter: str, package: str) -> Any:
    """The type of an argument, by its annotation, the docstring or the default.

    Args:
        function: a function or a class.
        parameter: name of the argument.
        package: the functions of this package take a list only where the default is
            one; those of others may take a number instead, as the end of a range.

    Returns:
        A type as in annotations; `typing.Any` if nothing is known.
    """
    found = (parameters_of(function) or {}).get(parameter)
    if found is None:
        return Any
    if found.annotation is not inspect.Parameter.empty:
        return found.annotation
    # "name: float in 0..1."
    pattern = rf"^\s*(?:\w+, )*{parameter}(?:, \w+)*: (int|float|bool|str)\b(?!,? or)"
    documented = re.search(pattern, inspect.getdoc(function) or "", re.MULTILINE)
    if documented:
        return _DOCUMENTED[documented[1]]
    default, sequence = found.default, collections.abc.Sequence
    if isinstance(default, (bool, str)):
        return type(default)
    if isinstance(default, (int, float)):
        return float | sequence[float]
    if isinstance(default, (list, tuple)) and default:
        is_own = function.__module__.partition(".")[0] == package
        return sequence if is_own else sequence | float
    return Any


def accepts(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; ints count as floats, bools count as neither.

    Args:
        kind: a type as in annotations.
        value: a literal, a function or class that is passed on, or `Returned`.
    """
    if kind is Any:
        return True
    if len(_options(kind)) > 1:
        return any(accepts(option, value) for option in _options(kind))
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if not inspect.isclass(origin):
        return True
    classes = _LITERALS.get(origin, origin)
    if isinstance(value, Returned):
        return value.kind is None or issubclass(value.kind, classes)
    if isinstance(value, bool):
        return origin is bool
    if not isinstance(value, classes):
        return False
    if origin not in _SEQUENCES or not inner:
        return True
    if len(inner) > 1 and ... not in inner:
        return len(value) == len(inner) and all(map(accepts, inner, value))
    return all(accepts(inner[0], item) for item in value)


def describe(kind: Any) -> str:
    """The type in words, as "an int", "a list of numbers" or "a string or None"."""
    words = [_noun(option).format(s="") for option in _options(kind)]
    # Names of classes have no article, and neither have True, False and None.
    words = [word if word[0].isupper() else f"a {word}" for word in words]
    return " or ".join(dict.fromkeys(words)).replace("a int", "an int")


def _options(kind):
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def _noun(kind):
    """A type in words, with {s} where the plural has an s."""
    origin = typing.get_origin(kind) or kind
    if origin in _NOUNS:
        return _NOUNS[origin]
    if inspect.isclass(origin) and issubclass(origin, collections.abc.Mapping):
        return "dict{s}"
    if origin not in _SEQUENCES:
        return f"{getattr(kind, '__name__', kind)}{{s}}, as @name()"
    inner = typing.get_args(kind)
    items = [_noun(option).format(s="s") for x in inner[:1] for option in _options(x)]
    of = f" of {' or '.join(dict.fromkeys(items))}" if items else ""
    has_length = origin is tuple and inner and ... not in inner
    return f"{len(inner)}-tuple{{s}}{of}" if has_length else f"list{{s}}{of}"


def _takes_any(parameters):
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())
