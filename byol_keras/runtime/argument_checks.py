"""Checks of arguments that classes share, each with the one line that it raises."""

from collections.abc import Iterable


def is_positive_int(value: object) -> bool:
    """Whether a value is an int of at least 1, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_positive_ints(**values: object) -> None:
    """Raises a `ValueError` on the first argument, by name, that is no positive int."""
    for name, value in values.items():
        if not is_positive_int(value):
            raise ValueError(f"{name} must be a positive int. Received: {value!r}")


def check_choice(name: str, value: object, choices: Iterable) -> None:
    """Raises a `ValueError` unless the argument `name` is among the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}. Received: {value!r}")
