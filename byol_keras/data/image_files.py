"""Image files below a folder: finding them, and reading them as encoded images."""

import functools
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import channels_of
from byol_keras.data.image_bytes import SUFFIXES, readable
from byol_keras.data.sources import Rows, file_stamps
from byol_keras.data.unreadable import (
    MAX_BAD_SHARE,
    ReadableFiles,
    check_share,
    flaw_of_file,
)

IMAGE_SUFFIXES = tuple(suffix for group in SUFFIXES.values() for suffix in group)
# Images that determine the number of channels of a folder.
_SAMPLE_SIZE = 16


def find_images(folder: pathlib.Path, otherwise: tuple[str, ...] = ()) -> list[str]:
    """Relative paths of the images below the folder, with "/" and sorted.

    Hidden files and folders are left out. Links are followed, also out of the folder;
    a circle of links is followed once.

    Args:
        folder: an existing one.
        otherwise: suffixes of the files to find where there are no images.

    Raises:
        ValueError: if there are none.
    """
    files = _files(folder, IMAGE_SUFFIXES) or _files(folder, otherwise)
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES + otherwise)
        raise ValueError(f"path must hold images ({suffixes}). Received: {folder}")
    return files


def common_channels(
    paths: Sequence[str], folder: pathlib.Path, max_bad_share: float = MAX_BAD_SHARE
) -> int:
    """Channels of the folder's first 16 readable images: 1 or 3; 3 if they disagree.

    Raises:
        ValueError: if the unreadable images before them exceed a share `max_bad_share`
            of all images, or are all images.
    """
    check_share(max_bad_share)
    found, readable_ones, unreadable = set(), 0, {}
    for path in paths:
        flaw = flaw_of_file(path)
        if flaw is None:
            found.add(channels_of(readable(pathlib.Path(path).read_bytes())))
            readable_ones += 1
        else:
            unreadable[path] = flaw
        if readable_ones == min(_SAMPLE_SIZE, len(paths)):
            break
        if len(unreadable) in (int(max_bad_share * len(paths)) + 1, len(paths)):
            raise ValueError(
                f"path must hold readable images, all but a share of {max_bad_share:g} "
                "(max_bad_share; python -m byol_keras.data_check lists them). "
                f"Received: {folder}, {len(unreadable)} unreadable of the first "
                f"{readable_ones + len(unreadable)}, such as {path} ({flaw})"
            )
    if unreadable:
        logging.getLogger("byol_keras").warning(
            "%d of the first %d images in %s cannot be read and will be replaced: %s",
            len(unreadable),
            len(unreadable) + readable_ones,
            folder,
            ", ".join(f"{path} ({flaw})" for path, flaw in unreadable.items()),
        )
    return found.pop() if len(found) == 1 else 3


def file_rows(
    paths: Sequence[str],
    labels: np.ndarray | None,
    channels: int,
    max_bad_share: float = MAX_BAD_SHARE,
    load: Callable[[str, int], tuple[Any, str | None]] | None = None,
) -> Rows:
    """A source that reads a file when its example is needed.

    Args:
        paths: of the image files. Images that only Pillow can read are re-encoded as
            PNG; unreadable ones are replaced or left out, see `unreadable`.
        labels: integers `[N]` or `[N, classes]`, or None.
        channels: int. Of the decoded images.
        max_bad_share: see `unreadable.ReadableFiles`.
        load: see `unreadable.ReadableFiles`.
    """
    files = ReadableFiles(paths, channels, max_bad_share, load)
    if labels is None:
        stamps = functools.partial(file_stamps, paths)
        return Rows(len(paths), lambda place: {}, contents=stamps, files=files)
    labels = np.asarray(labels, np.int64)
    with tf.device("CPU"):
        stored = tf.constant(labels)
    return Rows(
        len(paths),
        lambda place: {"label": stored[place]},
        contents=lambda: (*file_stamps(paths), labels.tobytes()),
        labels=lambda: labels,
        files=files,
    )


def _files(folder, suffixes):
    """Sorted relative paths, with "/", of the files with these suffixes."""
    files = []
    # Folder to visit -> the real folders on the way to it, which a link in it must not
    # lead back to.
    above = {os.fspath(folder): {os.path.realpath(folder)}}
    for parent, folders, names in os.walk(folder, followlinks=True):
        chain = above.pop(parent)
        inner = {}
        for name in folders:
            real = os.path.realpath(os.path.join(parent, name))
            if not name.startswith(".") and real not in chain:
                inner[name] = chain | {real}
        folders[:] = inner
        above |= {os.path.join(parent, name): inner[name] for name in inner}
        relative = pathlib.Path(parent).relative_to(folder)
        files += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    return sorted(files)
