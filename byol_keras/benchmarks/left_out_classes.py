"""Classes that a benchmark leaves out, since a split has too few images of them."""

import contextlib
from collections.abc import Iterator, Sequence

# Of the active `listed_left_out_classes`.
_lists: list[list[str]] = []


@contextlib.contextmanager
def listed_left_out_classes() -> Iterator[list[str]]:
    """Yields a list of the classes that the latest benchmark has left out."""
    names = []
    _lists.append(names)
    try:
        yield names
    finally:
        _lists[:] = [other for other in _lists if other is not names]


def note_left_out_classes(classes: Sequence[str]) -> None:
    """Notes for `listed_left_out_classes` which classes a benchmark leaves out."""
    for names in _lists:
        names[:] = classes
