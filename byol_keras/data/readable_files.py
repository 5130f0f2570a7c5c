"""Image files of which some cannot be decoded: examining and replacing them.

The rule of training: an unreadable image is replaced by the next readable one in stored
order; after the last image comes the first. The label is that of the replacement. So an
element of a stream remains a pure function of the files and of seed, pass and index:
it does not depend on what was read before, on parallelism, or on where a run was
interrupted, and the position in a run is still one integer. Evaluation leaves out
unreadable images, since a replacement would count twice.

A file is examined when a process first needs it, and again when its contents change. A
file that was found unreadable once stays unreadable for the rest of the process. If no
image can be opened, they are out of reach instead, see `reach`.
"""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from byol_keras.data.image_bytes import readable
from byol_keras.data.reach import Reach
from byol_keras.data.unreadable import (
    UNOPENED,
    TooManyBadImages,
    UnreadableFile,
    check_share,
    load_image,
    report,
)
from byol_keras.runtime.host_calls import host_function
from byol_keras.runtime.printable import printable
from byol_keras.runtime.progress import tracked

_UNKNOWN = -1
# Digests of contents are smaller; added to those of contents that must be converted.
_CONVERTED = 1 << 62
# Of `tf.io.matching_files`.
_WILDCARDS = rb"*?[\\"
# Files that are queued for examination at a time.
_BLOCK = 1024


class ReadableFiles:
    """Which image files can be decoded, and which replace the others.

    Args:
        paths: of the files, in stored order.
        channels: int. Of the decoded images.
        max_bad_share: float in 0..1. Reading ends with an error as soon as more than
            this share of the files is known to be unreadable, or all of them are.
        load: of files of decoded images: (path, channels) -> uint8 `[h, w, channels]`,
            and why the file cannot be used or None. Defaults to `load_image`, for files
            of encoded images.
        convert: contents of an encoded image -> contents that TensorFlow decodes as
            they are meant, the same object where nothing needs to be changed; raises a
            `ValueError` for what cannot be used. Defaults to `image_bytes.readable`.

    Raises:
        ValueError: if `max_bad_share` is out of its range.
    """

    def __init__(
        self,
        paths: Sequence[str],
        channels: int,
        max_bad_share: float,
        load: Callable[[str, int], tuple[Any, str | None]] | None = None,
        convert: Callable[[bytes], bytes] = readable,
    ):
        check_share(max_bad_share)
        self._load = load
        self._convert = convert
        self.paths = paths
        self.channels = channels
        self.max_bad_share = max_bad_share
        self._reach = Reach(paths)
        self._flaws: dict[str, str] = {}  # by path, of the unreadable files so far
        self._lock = threading.Lock()
        names = [os.fsencode(path) for path in paths]
        self._lists_folders = any(set(name) & set(_WILDCARDS) for name in names)
        # No variables: under the scope of a distribution strategy they would be spread
        # over devices.
        with tf.init_scope(), tf.device("CPU"):
            self._names = tf.constant(names)
            # Place -> digest of the contents that were found to be readable, with
            # `_CONVERTED` added if they must be converted.
            self._digests = _table()
            # Place of an unreadable file -> the place that is read for it.
            self._replacements = _table()

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image that is due at a place, int64 scalar.

        Returns:
            The place that is read, and its image: a string scalar that TensorFlow can
            decode, or uint8 `[h, w, channels]`.
        """
        if self._load is not None:
            return self._examined(place, tf.uint8, [None, None, self.channels])
        replacement = self._replacements.lookup(place)
        source = tf.where(replacement == _UNKNOWN, place, replacement)
        digest = self._digests.lookup(source)
        # What was not examined yet may be a pipe, which is read for ever.
        name = tf.where(digest == _UNKNOWN, os.devnull, self._names[source])
        contents = self._contents_or_empty(name)
        beyond = digest - _digest(contents)
        is_other = tf.cast(beyond != 0, tf.int32)
        must_be_converted = tf.cast(beyond == _CONVERTED, tf.int32)

        def converted():
            image = host_function(self._convert, [contents], tf.string, stateful=False)
            return source, tf.ensure_shape(image, [])

        return tf.switch_case(
            is_other + must_be_converted,
            [
                lambda: (source, contents),
                lambda: self._examined(place, tf.string, []),
                converted,
            ],
        )

    def readable_places(self) -> np.ndarray:
        """Places of all readable files, int64; examines those that were not read yet.

        Raises:
            TooManyBadImages: see `max_bad_share`.
        """
        places = np.arange(len(self.paths), dtype=np.int64)
        unread = places[self._digests.lookup(places).numpy() == _UNKNOWN]
        title = "checking images"
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in tracked(range(0, len(unread), _BLOCK), title, transient=True):
                list(pool.map(self._examine, unread[first : first + _BLOCK]))
        bad = [file.place for file in self.unreadable(0, len(places))]
        if len(bad) == len(places):
            raise self._too_many(self.paths[0])
        return np.setdiff1d(places, bad)

    def subset(self, places: np.ndarray) -> "ReadableFiles":
        """The files at these places, which only replace each other."""
        paths = [self.paths[place] for place in places]
        subset = ReadableFiles(
            paths, self.channels, self.max_bad_share, self._load, self._convert
        )
        digests = self._digests.lookup(places).numpy()
        (known,) = np.nonzero(digests != _UNKNOWN)
        subset._digests.insert(known, digests[known])
        return subset

    def unreadable(self, start: int, stop: int) -> list[UnreadableFile]:
        """The files at places `start..stop - 1` that were found unreadable so far."""
        paths = enumerate(self.paths[start:stop], start)
        return [
            UnreadableFile(place, path, self._flaws[path])
            for place, path in paths
            if path in self._flaws
        ]

    def _contents_or_empty(self, name):
        """Contents of a file in the graph; empty if it is gone."""
        if self._lists_folders:
            # `matching_files` would list the folder for every file.
            read = tf.data.Dataset.from_tensors(name).map(tf.io.read_file)
            read = read.ignore_errors().concatenate(tf.data.Dataset.from_tensors(""))
            return read.take(1).get_single_element()
        is_there = tf.size(tf.io.matching_files(name)) > 0
        # A file that is always there and empty costs less than a branch.
        return tf.io.read_file(tf.where(is_there, name, os.devnull))

    def _examined(self, place, dtype, shape):
        source, contents = host_function(
            self._first_readable, [place], [tf.int64, dtype]
        )
        return tf.ensure_shape(source, []), tf.ensure_shape(contents, shape)

    def _first_readable(self, place):
        for offset in range(len(self.paths)):
            source = np.int64((place + offset) % len(self.paths))
            contents = self._examine(source)
            if contents is not None:
                if offset:
                    self._replacements.insert(np.int64(place), source)
                return source, contents
        raise self._too_many(self.paths[place])

    def _examine(self, place):
        """The image of a file, converted; None if it is unreadable."""
        path = self.paths[place]
        if path in self._flaws:
            return None
        image, digest, flaw = self._load_and_convert(path)
        if flaw is not None and flaw.startswith(UNOPENED):
            self._reach.wait(path)
            image, digest, flaw = self._load_and_convert(path)
        if flaw is None:
            self._digests.insert(np.int64(place), digest)
            return image
        with self._lock:
            if path not in self._flaws:
                self._flaws[path] = flaw
                report(path, flaw, first=len(self._flaws) == 1)
        if len(self._flaws) > self.max_bad_share * len(self.paths):
            raise self._too_many(path)
        return None

    def _load_and_convert(self, path):
        """The converted image, the digest of its contents, and a flaw or None."""
        contents, flaw = (self._load or load_image)(path, self.channels)
        if flaw is not None or self._load is not None:
            return contents, np.int64(0), flaw
        try:
            image = self._convert(contents)
        except ValueError as error:
            return contents, np.int64(0), str(error)
        converted = 0 if image is contents else _CONVERTED
        return image, _digest(contents) + converted, None

    def _too_many(self, path):
        return TooManyBadImages(
            f"images must be readable, all but a share of {self.max_bad_share:g} "
            "(max_bad_share; python -m byol_keras.data_check lists them). "
            f"Received: {len(self._flaws)} unreadable so far, of {len(self.paths)} in "
            f"all, such as {printable(path)} ({printable(self._flaws[path])})"
        )


def _table():
    return tf.lookup.experimental.MutableHashTable(
        tf.int64, tf.int64, _UNKNOWN, experimental_is_anonymous=True
    )


def _digest(contents):
    """int64 scalar of at least 0, and smaller than `_CONVERTED`."""
    return tf.strings.to_hash_bucket_fast(contents, _CONVERTED)
