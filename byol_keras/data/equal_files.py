"""Images that two datasets share, as those for training and for a test should not."""

import collections
import functools
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np

from byol_keras.data.image_data import ImageData
from byol_keras.data.sources import IndexedSource
from byol_keras.data.spread import spread_places

# Beyond so many files, only those with the same name as one of the others are compared.
_MOST_SIZES = 200_000
# Images of one dataset that are compared at most, at equal distances, and files of the
# other that each is compared with.
_MOST_COMPARED = 500
_MOST_OF_A_SIZE = 100
# Images in memory that are read at a time.
_BATCH = 1024


class Shared(NamedTuple):
    """How many images two datasets share.

    Args:
        count: int. Images that are also in the other dataset.
        compared: int. Images that were compared.
        example: name of one of them, or None.
    """

    count: int
    compared: int
    example: str | None


def shared_images(data: ImageData, other: ImageData) -> Shared:
    """Counts images of `data` that are also in `other`.

    Files are equal if their contents are; only those of equal size are read, and of
    large datasets a part. Images in memory are compared as they are stored. A file and
    an image in memory are not compared, nor are records that are too large for memory:
    the count is then 0.
    """
    paths, others = _paths(data), _paths(other)
    places = spread_places(data.num_examples, _MOST_COMPARED)
    if paths and others:
        chosen = [paths[place] for place in places]
        return _shared(_are_among(chosen, others), chosen)
    if _is_in_memory(data) and _is_in_memory(other):
        found = {*_digests_of_images(other)}
        chosen = _digests_of_images(data.subset(places, data.name))
        return _shared(
            [digest in found for digest in chosen],
            [f"number {place} of {data.name}" for place in places],
        )
    return Shared(0, 0, None)


def _shared(are_equal, names):
    found = [name for name, is_equal in zip(names, are_equal, strict=True) if is_equal]
    return Shared(len(found), len(names), found[0] if found else None)


def _are_among(paths, others):
    """Whether each file has the contents of one of the others."""
    if len(others) > _MOST_SIZES:
        names = {os.path.basename(path) for path in paths}
        others = [path for path in others if os.path.basename(path) in names]
    by_size = collections.defaultdict(list)
    for path in others:
        by_size[_size(path)].append(path)
    by_size.pop(None, None)
    digest = functools.cache(_digest)
    for path in paths:
        same_size = by_size.get(_size(path), ())
        yield path in same_size or any(
            digest(path) == digest(candidate)
            for candidate in same_size[:_MOST_OF_A_SIZE]
        )


def _is_in_memory(data):
    is_indexed = isinstance(data.source, IndexedSource) and _paths(data) is None
    return is_indexed and data.num_examples <= _MOST_SIZES


def _digests_of_images(data):
    """Hash of each image in memory, decoded or encoded, in stored order."""
    for batch in data.source.ordered().batch(_BATCH):
        for image in batch["image"].numpy():
            pixels = np.asarray(image)
            content = image if pixels.dtype == object else pixels.tobytes()
            kind = repr(pixels.shape).encode()
            yield hashlib.blake2b(kind + content, digest_size=16).digest()


def _paths(data):
    """Paths of the files of a dataset that is not read from records; else None."""
    files = getattr(data.source, "files", None)
    return files.paths if files else None


def _size(path):
    """Of a file in bytes; None if it is empty or cannot be found."""
    try:
        return os.stat(path).st_size or None
    except OSError:
        return None


def _digest(path):
    """Hash of the contents; of a file that cannot be read, a value of its own."""
    try:
        return hashlib.blake2b(pathlib.Path(path).read_bytes()).digest()
    except OSError:
        return object()
