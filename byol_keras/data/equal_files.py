"""Files that two datasets share, as those for training and for a test should not."""

import collections
import functools
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np

from byol_keras.data.image_data import ImageData

# Beyond so many files, only those with the same name as one of the others are compared.
_MOST_SIZES = 200_000
# Files of one dataset that are compared at most, at equal distances, and files of the
# other that each is compared with.
_MOST_COMPARED = 500
_MOST_OF_A_SIZE = 100


class Shared(NamedTuple):
    """How many files two datasets share.

    Args:
        count: int. Files that are also in the other dataset.
        compared: int. Files that were compared.
        example: path of one of them, or None.
    """

    count: int
    compared: int
    example: str | None


def shared_files(data: ImageData, other: ImageData) -> Shared:
    """Counts files of `data` whose contents are those of a file of `other`.

    Only files of equal size are read, and of large datasets a part. Without files, as
    in arrays, the count is 0.
    """
    paths, others = _paths(data), _paths(other)
    if not paths or not others:
        return Shared(0, 0, None)
    if len(others) > _MOST_SIZES:
        names = {os.path.basename(path) for path in paths}
        others = [path for path in others if os.path.basename(path) in names]
    places = np.linspace(0, len(paths) - 1, min(_MOST_COMPARED, len(paths)))
    chosen = [paths[place] for place in places.round().astype(int)]
    by_size = collections.defaultdict(list)
    for path in others:
        by_size[_size(path)].append(path)
    by_size.pop(None, None)
    digest = functools.cache(_digest)
    found = []
    for path in chosen:
        same_size = by_size.get(_size(path), ())
        if path in same_size or any(
            digest(path) == digest(candidate)
            for candidate in same_size[:_MOST_OF_A_SIZE]
        ):
            found.append(path)
    return Shared(len(found), len(chosen), found[0] if found else None)


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
