"""What a folder of images holds, in one line each, for the start of a run."""

import collections
import functools
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from byol_keras.data.image_files import Found, counted, is_foreign
from byol_keras.runtime.printable import printable

_log = logging.getLogger("byol_keras")
# Classes that a line names with their counts.
_MOST_NAMED = 8
# Names of folders that are more often parts of a dataset than classes of images.
_PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_PARTS |= {"images", "masks", "labels", "annotations", "unlabeled", "unlabelled"}


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
    where = printable(folder)
    _once(_log.info, f"{count} in {where}: {counted(endings)}; {classes}")
    warnings = [left_out(found.left_out), *_odd_classes(found.files, class_names)]
    if class_names:
        warnings.append(_empty_folders(folder, found.files))
    for warning in filter(None, warnings):
        _once(_log.warning, f"{printable(folder)}: {warning}")


def log_classes(
    name: str,
    num_examples: int,
    class_names: Sequence[str] | None,
    labels: np.ndarray | None = None,
) -> None:
    """Logs the number of images and the classes of data that are no plain folder.

    Args:
        name: of the data.
        num_examples: int.
        class_names: names of the classes, or None.
        labels: integers `[N]`, or `[N, classes]` with 1 for the classes of an image;
            None where they are not known, or there are none.
    """
    classes = "no classes"
    if class_names and labels is None:
        classes = f"{len(class_names):,} classes"
    elif class_names:
        each = range(len(class_names))
        per_class = (
            (labels == 1).sum(axis=0)
            if labels.ndim == 2
            else np.bincount(labels, minlength=len(class_names))
        )
        counts = {class_names[label]: int(per_class[label]) for label in each}
        classes = _counts_in_words(counts)
    _once(_log.info, f"{num_examples:,} images: {printable(name)}; {classes}")


def left_out(counts: collections.Counter) -> str | None:
    """A line on files that are not read, by ending; None if there are none."""
    number = counts.total()
    if not number:
        return None
    are = "files are no images" if number > 1 else "file is no image"
    return f"{number:,} {are} that can be read: {counted(counts)}"


def _ending(file):
    return os.path.splitext(file)[1].lower()


def _classes_in_words(files):
    return _counts_in_words(collections.Counter(_first(file) for file in files))


def _counts_in_words(counts):
    if len(counts) == 1:
        return f"1 class: {printable(*counts)}"
    if len(counts) > _MOST_NAMED:
        least, most = min(counts.values()), max(counts.values())
        return f"{len(counts):,} classes of {least:,} to {most:,} images"
    return f"{len(counts)} classes: {counted(counts)}"


def _odd_classes(files, class_names):
    """Lines on folders that are probably not meant as they are understood."""
    if class_names is None:
        yield why_no_classes(files)
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
            return
    if len(inner) > 1 and {name.lower() for name in inner} <= _PARTS:
        yield (
            "the classes have names of parts of a dataset: "
            f"{', '.join(map(printable, sorted(inner)))}. To use only one part, set "
            "image_folder.path to it"
        )


def why_no_classes(files: Sequence[str]) -> str | None:
    """Why images in folders have no labels; None if they are in no folders.

    Args:
        files: relative paths of the images, some of them beside the folders.
    """
    beside = [file for file in files if "/" not in file]
    if len(beside) == len(files):
        return None
    return (
        f"no labels, since {len(beside):,} of {len(files):,} images are beside the "
        f"folders of the classes: {printable(beside[0])}"
        f"{', and others' if beside[1:] else ''}"
    )


def _first(file):
    return file.partition("/")[0]


def _empty_folders(folder, files):
    """A line on folders beside those of the classes that hold no images."""
    classes = {_first(file) for file in files}
    with os.scandir(folder) as entries:
        folders = {e.name for e in entries if e.is_dir() and not is_foreign(e.name)}
    empty = sorted(folders - classes)
    if not empty:
        return None
    names = ", ".join(map(printable, empty[:_MOST_NAMED]))
    more = ", and others" if empty[_MOST_NAMED:] else ""
    return f"folders without images are no classes: {names}{more}"


@functools.cache
def _once(log, line):
    log("%s", line)
