"""Image files below a folder: finding them, and reading them as encoded images."""

import functools
import importlib.util
import io
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from byol_keras.image_data import channels_of
from byol_keras.sources import Rows, file_stamps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
TIFF_SUFFIXES = (".tif", ".tiff")


def find_images(folder: pathlib.Path) -> list[str]:
    """Relative paths, with "/" and sorted, of the images below the folder.

    Hidden files and folders are left out, and TIFF where Pillow is not installed.

    Raises:
        ValueError: if there are none.
    """
    return _without_unreadable_tiffs(_image_files(folder), folder)


def common_channels(paths: Sequence[str], folder: pathlib.Path) -> int:
    """Channels of a sample of the folder's images: 1 or 3, and 3 if they disagree.

    Images of the sample that cannot be decoded are named in one warning.

    Raises:
        ValueError: if no image of the sample can be decoded.
    """
    found, unreadable = set(), {}
    for path in paths:
        try:
            found.add(_channels_of_file(path))
        except Exception as error:  # of TensorFlow or Pillow: bytes that are no image
            unreadable[path] = error
    if not found:
        raise ValueError(
            f"path must hold readable images; none of the first {len(paths)} is, from "
            f"{paths[0]} on. Received: {folder}"
        ) from unreadable[paths[0]]
    if unreadable:
        logging.warning(
            "%d of the first %d images in %s cannot be decoded, which ends a run that "
            "reaches them; remove or repair them: %s",
            len(unreadable),
            len(paths),
            folder,
            ", ".join(unreadable),
        )
    return found.pop() if len(found) == 1 else 3


def file_rows(paths: Sequence[str], labels: np.ndarray | None) -> Rows:
    """The source of `ImageData` that reads a file when its example is wanted.

    Args:
        paths: of the image files. TIFF comes re-encoded as PNG.
        labels: integers `[N]` or `[N, classes]`, or None.
    """
    if labels is None:
        stamps = functools.partial(file_stamps, paths)
        return Rows(len(paths), _fetch_files(paths, None), contents=stamps)
    labels = np.asarray(labels, np.int64)
    return Rows(
        len(paths),
        _fetch_files(paths, labels),
        contents=lambda: (*file_stamps(paths), labels.tobytes()),
        labels=lambda: labels,
    )


def _fetch_files(paths, labels) -> Callable:
    any_tiff = any(_is_tiff(path) for path in paths)
    with tf.device("CPU"):
        paths = tf.constant(paths)
        labels = None if labels is None else tf.constant(labels)

    def as_png(data):
        png = tf.numpy_function(_tiff_as_png, [data], tf.string, stateful=False)
        return tf.ensure_shape(png, [])

    def fetch(place):
        data = tf.io.read_file(paths[place])
        if any_tiff:
            lower = tf.strings.lower(paths[place])
            is_tiff = tf.strings.regex_full_match(lower, r".*\.tiff?")
            data = tf.cond(is_tiff, lambda: as_png(data), lambda: data)
        example = {"image": data}
        return example if labels is None else example | {"label": labels[place]}

    return fetch


def _image_files(folder):
    """Relative paths with "/" of all image files below the folder, sorted."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = pathlib.Path(parent).relative_to(folder)
        files += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".")
            and name.lower().endswith(IMAGE_SUFFIXES + TIFF_SUFFIXES)
        ]
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES + TIFF_SUFFIXES)
        raise ValueError(f"path must hold images ({suffixes}). Received: {folder}")
    return sorted(files)


def _without_unreadable_tiffs(files, folder):
    if importlib.util.find_spec("PIL"):
        return files
    kept = [file for file in files if not _is_tiff(file)]
    if not kept:
        raise ValueError(
            "path must hold images other than TIFF, unless Pillow is installed: "
            f"pip install pillow. Received: {folder}"
        )
    if len(kept) < len(files):
        logging.warning(
            "%d TIFF images in %s are left out, as they need Pillow: "
            "pip install pillow",
            len(files) - len(kept),
            folder,
        )
    return kept


def _is_tiff(path):
    return path.lower().endswith(TIFF_SUFFIXES)


def _channels_of_file(path):
    data = tf.io.read_file(path)
    if _is_tiff(path):
        data = _tiff_as_png(data.numpy())
    return channels_of(data)


def _tiff_as_png(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):
            image = image.convert("RGB")
        png = io.BytesIO()
        image.save(png, "png", compress_level=1)
    return png.getvalue()
