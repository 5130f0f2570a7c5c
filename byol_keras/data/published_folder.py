"""The folder of a published dataset, with errors that name what is missing in it."""

import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from byol_keras.data import image_files
from byol_keras.data.folder_contents import log_classes
from byol_keras.data.image_data import ImageData
from byol_keras.runtime.argument_checks import check_choice
from byol_keras.runtime.run_folder import check_local

# A file and its label, separated by blanks, or by ";" or "," in some releases.
_LINE = re.compile(r"(.+?)[ \t;,]+(\d+)")


class PublishedFolder:
    """The folder `path` of a dataset function.

    Args:
        function: str. Name of the dataset function, for messages.
        path: the folder, which need not exist.
        address: str. Where to download the dataset.
    """

    def __init__(self, function: str, path: str | os.PathLike, address: str):
        check_local(f"{function}.path", path)
        self.function = function
        self.root = pathlib.Path(path).expanduser()
        self.address = address

    def check_split(self, split: str, allowed: Sequence[str] = ("train", "val")):
        """Raises a `ValueError` unless the split is one of the allowed ones."""
        check_choice(f"{self.function}.split", split, allowed)

    def first_file(self, *files: str) -> pathlib.Path:
        """The first of these relative paths that is a file.

        Raises:
            ValueError: if none is.
        """
        for file in files:
            if (self.root / file).is_file():
                return self.root / file
        raise self.missing(" or ".join(files))

    def missing(self, files: str) -> ValueError:
        """The error for a folder without these files."""
        there = "without it" if self.root.is_dir() else "which is no folder"
        return ValueError(
            f"{self.function}.path must hold {files} (get it from {self.address}). "
            f"Received: {self.root}, {there}"
        )

    def listed(
        self,
        name: str,
        folder: pathlib.Path,
        files: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        class_names: tuple[str, ...],
    ) -> ImageData:
        """The listed images, with three channels, after a check that all of them exist.

        Args:
            name: str. Of the data.
            folder: the root of the relative paths.
            files: relative paths of the images, with "/".
            labels: integers `[N]` or `[N, classes]`.
            class_names: names of the classes.

        Raises:
            ValueError: if the list is empty, a path leaves the folder, or an image is
                missing.
        """
        if not files:
            raise ValueError(
                f"{self.function}.path must hold a list of images. "
                f"Received: an empty list in {self.root}"
            )
        absent = _absent_files(folder, files)
        if absent:
            raise ValueError(
                f"{self.function}.path must hold all images of its list (get them from "
                f"{self.address}). Received: {folder} without {len(absent)} of "
                f"{len(files)}, such as {absent[0]}"
            )
        paths = [os.path.join(folder, file) for file in files]
        labels = np.asarray(labels, np.int64)
        log_classes(name, len(files), class_names, labels)
        rows = image_files.file_rows(paths, labels, 3)
        return ImageData(name, len(files), 3, None, class_names, rows, names=files)


def read_list(path: pathlib.Path) -> tuple[list[str], list[int]]:
    """Files and labels from a text file of lines such as `a/abbey/1.jpg 0`.

    Raises:
        ValueError: if a line has another form.
    """
    files, labels = [], []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            match = _LINE.fullmatch(line.strip())
            if match:
                files.append(match[1])
                labels.append(int(match[2]))
            elif line.strip():
                raise malformed(path, "of a file and its label", number, line)
    return files, labels


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a list in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: if the file has another encoding.
    """
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} must be text in UTF-8. Received: {path} ({error})"
        ) from error


def malformed(path: pathlib.Path, rule: str, number: int, line: str) -> ValueError:
    """The error for a line of a list that breaks the rule."""
    return ValueError(
        f"{path.name} must hold lines {rule}. "
        f"Received: {line.strip()!r} in line {number} of {path}"
    )


def _absent_files(folder, files):
    # Listing every folder takes seconds for millions of files; checking each file on a
    # network disk would take minutes.
    present, absent = {}, []
    for file in files:
        parent, _, base = file.rpartition("/")
        if os.path.isabs(file) or ".." in parent.split("/"):
            raise ValueError(
                "a list of images must hold paths that stay below its folder. "
                f"Received: {file}, below {folder}"
            )
        if parent not in present:
            inner = folder / parent
            present[parent] = set(os.listdir(inner)) if inner.is_dir() else set()
        if base not in present[parent]:
            absent.append(file)
    return absent
