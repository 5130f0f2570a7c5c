"""What a folder of images holds, in one line each, for the start of a run."""

import collections
import functools
import logging
import os
import pathlib
from collections.abc import Sequence

from byol_keras.data.image_files import Found
from byol_keras.runtime.printable import printable

_log = logging.getLogger("byol_keras")
# Endings and classes that a line names with their counts.
_MOST_NAMED = 8


def log_contents(
    folder: pathlib.Path, found: Found, class_names: Sequence[str] | None
) -> None:
    """Logs images by ending and images by class, and warns of what may be a mistake.

    A line is logged once in a process, however often the folder is opened.

    Args:
        folder: the images are in.
        found: what `image_files.find_images` returned.
        class_names: of the images, or None.
    """
    endings = collections.Counter(_ending(file) for file in found.files)
    classes = _classes_in_words(found.files) if class_names else "no classes"
    count = f"{len(found.files):,} image{'s' if len(found.files) > 1 else ''}"
    _once(_log.info, f"{count} in {folder}: {counted(endings)}; {classes}")
    warnings = (left_out(found.left_out), *_odd_classes(found.files, class_names))
    for warning in filter(None, warnings):
        _once(_log.warning, f"{folder}: {warning}")


def left_out(counts: collections.Counter) -> str | None:
    """A line on files that are not read, by ending; None if there are none."""
    number = counts.total()
    if not number:
        return None
    are = "files are no images" if number > 1 else "file is no image"
    return f"{number:,} {are} that can be read: {counted(counts)}"


def counted(counts: collections.Counter) -> str:
    """Numbers and names, the largest number first: "30 .png, 2 .jpg"."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{n:,} {printable(name) or 'without ending'}" for name, n in most]
    if len(shown) > _MOST_NAMED:
        rest = sum(n for _, n in most[_MOST_NAMED:])
        shown[_MOST_NAMED:] = [f"{rest:,} others"]
    return ", ".join(shown)


def _ending(file):
    return os.path.splitext(file)[1].lower()


def _classes_in_words(files):
    counts = collections.Counter(file.partition("/")[0] for file in files)
    if len(counts) == 1:
        return f"1 class: {printable(*counts)}"
    if len(counts) > _MOST_NAMED:
        least, most = min(counts.values()), max(counts.values())
        return f"{len(counts):,} classes of {least:,} to {most:,} images"
    return f"{len(counts)} classes: {counted(counts)}"


def _odd_classes(files, class_names):
    """Lines on folders that are probably not meant as they are understood."""
    if class_names is None:
        beside = [file for file in files if "/" not in file]
        if len(beside) < len(files):
            yield (
                f"no labels, since {len(beside):,} of {len(files):,} images are beside "
                f"the folders of the classes: {printable(beside[0])}"
                f"{', and others' if beside[1:] else ''}"
            )
        return
    # First level -> names on the second.
    inner = collections.defaultdict(set)
    for file in files:
        first, *middle, _ = file.split("/")
        inner[first].add(middle[0] if middle else None)
    if all(None not in names for names in inner.values()):
        first = min(inner, key=lambda name: (-len(inner[name]), name))
        if len(inner[first]) > 1:
            below = " and ".join(printable(name) for name in sorted(inner[first])[:2])
            yield (
                f"folders on the first level are the classes; those below, such as "
                f"{below} in {printable(first)}, are not. To use them as classes, set "
                f"image_folder.path to {printable(first)}"
            )


@functools.cache
def _once(log, line):
    log("%s", line)
