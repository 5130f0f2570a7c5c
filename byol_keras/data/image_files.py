"""Image files below a folder: finding them, and reading them as encoded images."""

import collections
import concurrent.futures
import functools
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from byol_keras.data.decoding import channels_of
from byol_keras.data.image_bytes import SUFFIXES, readable
from byol_keras.data.readable_files import ReadableFiles
from byol_keras.data.reduced_images import ReducedImages
from byol_keras.data.sources import Rows, file_stamps
from byol_keras.data.spread import spread
from byol_keras.data.unreadable import MAX_BAD_SHARE, check_share, load_image
from byol_keras.runtime.printable import printable
from byol_keras.runtime.regular_files import check_regular

_log = logging.getLogger("byol_keras")
IMAGE_SUFFIXES = tuple(suffix for group in SUFFIXES.values() for suffix in group)
# Folders that operating systems, storage devices and notebooks add.
FOREIGN_FOLDERS = (
    "$RECYCLE.BIN",
    "@eaDir",
    "__MACOSX",
    "__pycache__",
    "lost+found",
    "RECYCLED",
    "RECYCLER",
    "#recycle",
    "#snapshot",
    "@Recently-Snapshot",
    "@Recycle",
    "@tmp",
    "Network Trash Folder",
    "System Volume Information",
    "Temporary Items",
)
_FOREIGN = {name.lower() for name in FOREIGN_FOLDERS}
# Images that are decoded to find the number of channels of a folder, and those whose
# headers are read.
_SAMPLE_SIZE = 16
_MOST_HEADERS = 1024
# Headers that are read at a time: network disks answer many requests.
_HEADERS_AT_ONCE = 16
# Endings, classes or files that a line names.
_MOST_NAMED = 8
# Modes of Pillow that `readable` and TensorFlow decode to grey.
_GREY_MODES = ("1", "L", "LA", "La", "I")


class Found(NamedTuple):
    """What a folder holds.

    Args:
        files: relative paths of the images, with "/" and sorted.
        left_out: ending, as ".txt" -> number of the other files.
    """

    files: list[str]
    left_out: collections.Counter


def find_images(folder: pathlib.Path, otherwise: tuple[str, ...] = ()) -> Found:
    """The images below the folder, and how many other files there are.

    Hidden files and folders are left out, and so are `FOREIGN_FOLDERS`. Links are
    followed, also out of the folder; a circle of links is followed once. A warning
    names a folder that cannot be listed.

    Args:
        folder: an existing one.
        otherwise: suffixes of the files to find where there are no images.

    Raises:
        ValueError: if there are none.
    """
    images, others, left_out, unlisted = [], [], collections.Counter(), []
    for file in _files(folder, unlisted.append):
        if file.lower().endswith(IMAGE_SUFFIXES):
            images.append(file)
        elif file.lower().endswith(otherwise):
            others.append(file)
        else:
            left_out[os.path.splitext(file)[1].lower()] += 1
    if images:
        left_out.update(os.path.splitext(file)[1].lower() for file in others)
    problem = _cannot_be_listed(unlisted)
    if not images and not others:
        suffixes = " ".join(IMAGE_SUFFIXES + otherwise)
        there = problem or counted(left_out) or "no files"
        raise ValueError(
            f"path must hold images ({suffixes}). Received: {folder}, with {there}"
        )
    if problem:
        _log.warning("%s: left out %s", printable(folder), problem)
    return Found(sorted(images or others), left_out)


def _cannot_be_listed(errors):
    """The folders of some errors in words; empty without errors."""
    if not errors:
        return ""
    folders = f"{len(errors)} folder{'s' if errors[1:] else ''}"
    name, reason = printable(errors[0].filename), errors[0].strerror
    return f"{folders} that cannot be listed, first {name} ({reason})"


def counted(counts: collections.Counter) -> str:
    """Numbers and names, the largest number first: "30 .png, 2 .jpg"."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{n:,} {printable(name) or 'without ending'}" for name, n in most]
    if len(shown) > _MOST_NAMED:
        rest = sum(n for _, n in most[_MOST_NAMED:])
        shown[_MOST_NAMED:] = [f"{rest:,} others"]
    return ", ".join(shown)


def is_foreign(name: str) -> bool:
    """Whether a folder of this name is hidden, or one of `FOREIGN_FOLDERS`."""
    return name.startswith(".") or name.lower() in _FOREIGN


def common_channels(
    paths: Sequence[str], folder: pathlib.Path, max_bad_share: float = MAX_BAD_SHARE
) -> int:
    """Channels of the folder's images: 1 if all those examined are grey, else 3.

    16 images are decoded, at equal distances in the order of `paths`, and further ones
    in place of the unreadable. Of up to 1,024 more the headers are read, at equal
    distances again. A warning has the counts if they differ.

    Raises:
        ValueError: if the unreadable images among those decoded exceed a share
            `max_bad_share` of all images, or are all images.
    """
    check_share(max_bad_share)
    found, unreadable = {}, {}
    for path in dict.fromkeys([*spread(paths, _SAMPLE_SIZE), *paths]):
        data, flaw = load_image(path)
        if flaw is None:
            found[path] = channels_of(readable(data))
        else:
            unreadable[path] = flaw
        if len(found) == min(_SAMPLE_SIZE, len(paths)):
            break
        if len(unreadable) in (int(max_bad_share * len(paths)) + 1, len(paths)):
            raise ValueError(
                f"path must hold readable images, all but a share of {max_bad_share:g} "
                "(max_bad_share; python -m byol_keras.data_check lists them). "
                f"Received: {folder}, {len(unreadable)} unreadable of "
                f"{len(found) + len(unreadable)} examined, such as {path} ({flaw})"
            )
    if unreadable:
        _warn_of_unreadable(unreadable, len(found), folder)
    more = [path for path in spread(paths, _MOST_HEADERS) if path not in found]
    with concurrent.futures.ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        of_headers = pool.map(_channels_in_header, more)
    counts = collections.Counter([*found.values(), *of_headers])
    if counts[1] and counts[3]:
        _log.warning(
            "of %d images examined in %s, %d are grey and %d in colour; all are read "
            "in colour unless image_folder.channels is 1",
            counts[1] + counts[3],
            printable(folder),
            counts[1],
            counts[3],
        )
    return 3 if counts[3] else 1


def _warn_of_unreadable(unreadable, num_readable, folder):
    named = [f"{path} ({flaw})" for path, flaw in unreadable.items()]
    if len(named) > _MOST_NAMED:
        named[_MOST_NAMED:] = [f"and {len(named) - _MOST_NAMED:,} others"]
    _log.warning(
        "%d of %d images examined in %s cannot be read: %s",
        len(unreadable),
        len(unreadable) + num_readable,
        printable(folder),
        printable(", ".join(named)),
    )


def _channels_in_header(path):
    """1 or 3 without decoding; None if the file cannot be read."""
    try:
        check_regular(path)
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            is_grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
            return 1 if is_grey and image.format != "GIF" else 3
    except Exception:  # Pillow raises many kinds
        return None


def file_rows(
    paths: Sequence[str],
    labels: np.ndarray | None,
    channels: int,
    max_bad_share: float = MAX_BAD_SHARE,
    load: Callable[[str, int], tuple[Any, str | None]] | None = None,
    reading: Mapping[str, Any] | None = None,
    short_side: int | None = None,
) -> Rows:
    """A source that reads a file when its example is needed.

    Args:
        paths: of the image files. Images that only Pillow can read are re-encoded;
            unreadable ones are replaced or left out, see `readable_files`.
        labels: integers `[N]` or `[N, classes]`, or None.
        channels: int. Of the decoded images.
        max_bad_share: see `readable_files.ReadableFiles`.
        load: see `readable_files.ReadableFiles`.
        reading: arguments of `image_bytes.readable` besides the image, those that are
            not at their defaults.
        short_side: int in pixels or None; see `image_folder.image_folder`.
    """
    reading = reading or {}
    convert = functools.partial(readable, **reading)
    if short_side is not None:
        load = ReducedImages(short_side, convert)
        reading = {**reading, "short_side": short_side}
    files = ReadableFiles(paths, channels, max_bad_share, load, convert)

    def contents():
        yield from file_stamps(paths)
        if reading:
            yield repr(sorted(reading.items())).encode()

    if labels is None:
        return Rows(len(paths), lambda place: {}, contents=contents, files=files)
    labels = np.asarray(labels, np.int64)
    with tf.device("CPU"):
        stored = tf.constant(labels)
    return Rows(
        len(paths),
        lambda place: {"label": stored[place]},
        contents=lambda: (*contents(), labels.tobytes()),
        labels=lambda: labels,
        files=files,
    )


def _files(folder, note: Callable[[OSError], None]) -> Iterator[str]:
    """Relative paths, with "/", of the files that are not hidden.

    Args:
        note: called with the error of each folder that cannot be listed.
    """
    # Folder to visit -> the real folders on the way to it, which a link in it must not
    # lead back to.
    above = {os.fspath(folder): {os.path.realpath(folder)}}
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        chain = above.pop(parent)
        inner = {}
        for name in folders:
            real = os.path.realpath(os.path.join(parent, name))
            if not is_foreign(name) and real not in chain:
                inner[name] = chain | {real}
        folders[:] = inner
        above |= {os.path.join(parent, name): inner[name] for name in inner}
        relative = pathlib.Path(parent).relative_to(folder)
        for name in names:
            if not name.startswith("."):
                yield (relative / name).as_posix()
