"""Image files that cannot be decoded: replacing, counting and listing them.

The rule: an unreadable image is replaced by the next readable one in stored order;
after the last image comes the first. The label is that of the replacement. So an
element of a stream remains a pure function of the files and of seed, pass and index:
it does not depend on what was read before, on parallelism, or on where a run was
interrupted, and the position in a run is still one integer.

A file is examined when a process first needs it, and the answer is kept: changes of
the file during a run have no effect on it.
"""

import contextlib
import logging
import pathlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.data.image_bytes import flaw_of
from byol_keras.runtime.host_calls import host_function

# Scraped folders hold a few broken files. A larger share usually has one cause, such
# as an interrupted copy.
MAX_BAD_SHARE = 0.05

_UNKNOWN = -1
_log = logging.getLogger("byol_keras")
_lists: list[pathlib.Path] = []


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


class ReadableFiles:
    """Which image files can be decoded, and which replace the others.

    Args:
        paths: of the files, in stored order.
        channels: int. Of the decoded images.
        max_bad_share: float in 0..1. Reading ends with an error as soon as more than
            this share of the files is known to be unreadable, or all of them are.
        examine: (path, channels) -> why a file cannot be decoded, or None. Defaults to
            `flaw_of_file`.

    Raises:
        ValueError: if `max_bad_share` is out of its range.
    """

    def __init__(
        self,
        paths: Sequence[str],
        channels: int,
        max_bad_share: float,
        examine: Callable[[str, int], str | None] | None = None,
    ):
        check_share(max_bad_share)
        self._examine = examine
        self.paths = paths
        self.channels = channels
        self.max_bad_share = max_bad_share
        self._flaws: dict[str, str] = {}  # by path, of the unreadable files so far
        self._lock = threading.Lock()
        # Place -> the place that is read for it. No variable: under the scope of a
        # distribution strategy it would be spread over devices.
        with tf.init_scope(), tf.device("CPU"):
            self._found = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.int64, _UNKNOWN, experimental_is_anonymous=True
            )

    def place(self, place: tf.Tensor) -> tf.Tensor:
        """int64 scalar: the place to read where this place is due."""

        def examined():
            found = host_function(self._first_readable, [place], tf.int64)
            with tf.control_dependencies([self._found.insert(place, found)]):
                return tf.ensure_shape(found, [])

        found = self._found.lookup(place)
        return tf.cond(found == _UNKNOWN, examined, lambda: found)

    def subset(self, places: np.ndarray) -> "ReadableFiles":
        """The files at these places, which only replace each other."""
        paths = [self.paths[place] for place in places]
        return ReadableFiles(paths, self.channels, self.max_bad_share, self._examine)

    def unreadable(self, start: int, stop: int) -> list[UnreadableFile]:
        """The files at places `start..stop - 1` that were found unreadable so far."""
        paths = enumerate(self.paths[start:stop], start)
        return [
            UnreadableFile(place, path, self._flaws[path])
            for place, path in paths
            if path in self._flaws
        ]

    def _first_readable(self, place):
        for offset in range(len(self.paths)):
            candidate = (place + offset) % len(self.paths)
            if self._is_readable(self.paths[candidate]):
                return np.int64(candidate)
        raise self._too_many(self.paths[place])

    def _is_readable(self, path):
        if path in self._flaws:
            return False
        flaw = (self._examine or flaw_of_file)(path, self.channels)
        if flaw is None:
            return True
        with self._lock:
            if path not in self._flaws:
                self._flaws[path] = flaw
                _report(path, flaw, first=len(self._flaws) == 1)
        if len(self._flaws) > self.max_bad_share * len(self.paths):
            raise self._too_many(path)
        return False

    def _too_many(self, path):
        return TooManyBadImages(
            f"images must be readable, all but a share of {self.max_bad_share:g} "
            "(max_bad_share; python -m byol_keras.data_check lists them). "
            f"Received: {len(self._flaws)} unreadable so far, of {len(self.paths)} in "
            f"all, such as {path} ({self._flaws[path]})"
        )


def check_share(max_bad_share: float) -> None:
    """Raises a `ValueError` unless the share is a number in 0..1."""
    is_number = isinstance(max_bad_share, (int, float))
    if not is_number or not 0.0 <= max_bad_share <= 1.0:
        raise ValueError(
            f"max_bad_share must be a number in 0..1. Received: {max_bad_share!r}"
        )


def flaw_of_file(path: str, channels: int = 3) -> str | None:
    """Why the image of a file cannot be decoded, in a few words; None if it can."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return flaw_of(data, channels)


@contextlib.contextmanager
def listed_in(path: pathlib.Path | None) -> Iterator[None]:
    """While active, appends unreadable images to a file, each once.

    Args:
        path: of the file: a path, a tab and the reason per line. It is created with
            the first line; a resumed run appends to it. None writes nothing.

    Raises:
        TooManyBadImages: in place of TensorFlow's error, if there are too many.
    """
    if path is not None:
        _lists.append(pathlib.Path(path))
    try:
        yield
    except tf.errors.OpError as error:
        # TensorFlow includes the message of a Python exception in its own.
        raised = re.search(rf"{TooManyBadImages.__name__}: (.*)", str(error))
        if not raised:
            raise
        raise TooManyBadImages(raised[1]) from error
    finally:
        if path is not None:
            _lists.remove(pathlib.Path(path))
            count = len(_paths_in(path))
            if count:
                _log.warning("%d images could not be read; see %s", count, path)


def _report(path, flaw, first):
    if first:
        _log.warning(
            "images that cannot be read are replaced by the next ones, first %s (%s)%s",
            path,
            flaw,
            "".join(f"; see {file}" for file in _lists),
        )
    for file in _lists:
        if path not in _paths_in(file):
            with file.open("a") as stream:
                stream.write(f"{path}\t{flaw}\n")


def _paths_in(listing):
    listing = pathlib.Path(listing)
    lines = listing.read_text().splitlines() if listing.exists() else ()
    return {line.partition("\t")[0] for line in lines}
