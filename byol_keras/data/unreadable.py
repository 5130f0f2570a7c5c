"""Image files that cannot be decoded: why, how many, and where they are listed.

`readable_files` has the rules by which they are replaced or left out.
"""

import contextlib
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from byol_keras.data.image_bytes import flaw_of
from byol_keras.data.reach import OutOfReach
from byol_keras.runtime.errors import os_error_of
from byol_keras.runtime.printable import printable
from byol_keras.runtime.regular_files import check_regular

# Scraped folders hold a few broken files. A larger share usually has one cause, such
# as an interrupted copy.
MAX_BAD_SHARE = 0.05

# Start of the flaws of files that may be within reach again later.
UNOPENED = "cannot be opened"
_log = logging.getLogger("byol_keras")
_lists: list[pathlib.Path] = []
_counts: list[dict[str, int]] = []


class TooManyBadImages(ValueError):
    """More images are unreadable than `max_bad_share` allows."""


class UnreadableFile(NamedTuple):
    """A file that cannot be decoded.

    Args:
        place: int. In stored order.
        path: str.
        reason: str. In a few words.
    """

    place: int
    path: str
    reason: str


def check_share(max_bad_share: float) -> None:
    """Raises a `ValueError` unless the share is a number in 0..1."""
    is_number = isinstance(max_bad_share, (int, float))
    if not is_number or not 0.0 <= max_bad_share <= 1.0:
        raise ValueError(
            f"max_bad_share must be a number in 0..1. Received: {max_bad_share!r}"
        )


def flaw_of_file(path: str, channels: int = 3) -> str | None:
    """Why the image of a file cannot be decoded, in a few words; None if it can."""
    return load_image(path, channels)[1]


def load_image(path: str, channels: int = 3) -> tuple[bytes, str | None]:
    """Contents of an image file, and why they cannot be decoded or None if they can."""
    try:
        check_regular(path)
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        return b"", f"{UNOPENED}: {error.strerror}"
    return data, flaw_of(data, channels)


@contextlib.contextmanager
def counted_left_out() -> Iterator[dict[str, int]]:
    """Yields a dict to which evaluations add: name of data -> images left out."""
    counts = {}
    _counts.append(counts)
    try:
        yield counts
    finally:
        _counts.remove(counts)


def note_left_out(name: str, count: int) -> None:
    """Notes for `counted_left_out` that an evaluation left out unreadable images.

    Args:
        name: str. Of the data.
        count: int. Number of images; 0 is not noted.
    """
    if count:
        for counts in _counts:
            counts[name] = count


@contextlib.contextmanager
def listed_in(path: pathlib.Path | None) -> Iterator[None]:
    """While active, appends unreadable images to a file, each once.

    Args:
        path: of the file: a path, a tab and the reason per line. It is created with
            the first line; a resumed run appends to it. None writes nothing.

    Raises:
        TooManyBadImages: in place of TensorFlow's error, if there are too many.
        OutOfReach: likewise, if no image can be opened any more, or an image that was
            read before cannot be opened.
        OSError: in place of TensorFlow's other errors of the file system.
    """
    if path is not None:
        _lists.append(pathlib.Path(path))
    try:
        yield
    except tf.errors.OpError as error:
        found = _cause_of(error)
        if found is None:
            raise
        raise found from error
    finally:
        if path is not None:
            _lists.remove(pathlib.Path(path))
            count = len(_paths_in(path))
            if count:
                _log.warning("%d images could not be read; see %s", count, path)


def _cause_of(error):
    """The error of this package or of the file system behind one of TensorFlow's."""
    # TensorFlow includes the message of a Python exception in its own.
    kinds = {kind.__name__: kind for kind in (TooManyBadImages, OutOfReach)}
    raised = re.search(rf"({'|'.join(kinds)}): (.*)", str(error))
    if raised:
        return kinds[raised[1]](raised[2])
    found = os_error_of(error)
    if found and "Iterator" in str(error):
        return OutOfReach(
            f"images must be within reach. Received: {printable(found.filename)} "
            f"({found.strerror})"
        )
    return found


def report(path: str, flaw: str, first: bool) -> None:
    """Adds an unreadable image to the lists, and logs a warning for the first one."""
    if first:
        _log.warning(
            "images that cannot be read are replaced by the next ones in training, and "
            "left out of evaluation, first %s (%s)%s",
            printable(path),
            printable(flaw),
            "".join(f"; see {printable(file)}" for file in _lists),
        )
    for file in _lists:
        # A list that cannot be written must not end reading.
        with contextlib.suppress(OSError):
            if printable(path) not in _paths_in(file):
                with file.open("a") as stream:
                    stream.write(f"{printable(path)}\t{printable(flaw)}\n")


def _paths_in(listing):
    listing = pathlib.Path(listing)
    lines = listing.read_text().splitlines() if listing.exists() else ()
    return {line.partition("\t")[0] for line in lines}
