"""Checks of arguments that several classes share, each with its one-line error."""

import numbers
import os
import pathlib
from collections.abc import Iterable

from byol_keras.runtime.run_folder import check_local


def is_int(value: object, least: int) -> bool:
    """Whether a value is an integer, Python's or NumPy's, of at least `least`.

    A bool is no integer here.
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and value >= least


def is_positive_int(value: object) -> bool:
    """Whether a value is an integer of at least 1; see `is_int`."""
    return is_int(value, least=1)


def check_int(name: str, value: object, least: int) -> None:
    """Raises a `ValueError` unless the argument `name` passes `is_int`."""
    if not is_int(value, least):
        rule = "a positive int" if least == 1 else f"an int of at least {least}"
        raise ValueError(f"{name} must be {rule}. Received: {value!r}")


def check_positive_ints(**values: object) -> None:
    """Raises a `ValueError` for the first argument that is not a positive int."""
    for name, value in values.items():
        check_int(name, value, least=1)


def check_choice(name: str, value: object, choices: Iterable) -> None:
    """Raises a `ValueError` unless the argument `name` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}. Received: {value!r}")


def existing_folder(name: str, path: str | os.PathLike) -> pathlib.Path:
    """The path of the argument `name`, with `~` expanded.

    Raises:
        ValueError: if it is not an existing folder.
    """
    check_local(name, path)
    # An empty string would be the working directory.
    if not os.fspath(path):
        raise ValueError(f"{name} must be an existing folder. Received: none")
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        raise ValueError(f"{name} must be an existing folder. Received: {path}")
    return path
