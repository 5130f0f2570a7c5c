"""Images in memory and in IDX files."""

import dataclasses
import gzip
import math
import os
import zlib

import gin
import numpy as np
import tensorflow as tf

from byol_keras.data.array_files import has_channels_first
from byol_keras.data.folder_contents import log_classes
from byol_keras.data.image_data import ImageData
from byol_keras.data.sources import Rows
from byol_keras.runtime.argument_checks import existing_folder

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Channels of images in colour, without and with transparency.
_COLOURS = (3, 4)


@gin.register(module="byol_keras")
def fashion_mnist_idx(path: str | os.PathLike, split: str = "train") -> ImageData:
    """The original IDX files of Fashion-MNIST: 60,000 train and 10,000 test images.

    Args:
        path: folder of the four files, gzipped or not. The Debian package
            dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: if a file is missing, or is not the expected IDX file.
    """
    images, labels = read_fashion_mnist_idx(path, split)
    name = f"Fashion-MNIST IDX files in {path}, split {split}"
    return _from_arrays(name, images, labels, FASHION_MNIST_CLASSES)


@gin.register(module="byol_keras")
def arrays(images: np.ndarray, labels: np.ndarray | None = None) -> ImageData:
    """Images in memory, of any number of channels.

    Args:
        images: uint8 `[N, H, W, C]`, or `[N, H, W]` for one channel.
        labels: integers `[N]` of at least 0, or None.

    Raises:
        ValueError: if a dtype or a shape differs from these.
    """
    images = _as_array("images", images)
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8. Received: {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            "images must be of shape [N, H, W, C] or [N, H, W], none of them 0. "
            f"Received: {images.shape}"
        )
    if has_channels_first(images.shape[1:]):
        raise ValueError(
            "images must have their channels last, as [N, H, W, C]. "
            f"Received: {images.shape}"
        )
    if images.shape[2] in _COLOURS and min(images.shape[:2]) > max(_COLOURS):
        one = "one image" if images.ndim == 3 else "[H, W, C, N]"
        raise ValueError(
            "images must be of shape [N, H, W, C] or [N, H, W]. "
            f"Received: {images.shape}, probably {one}"
        )
    class_names = None
    if labels is not None:
        labels = _checked_labels(_as_array("labels", labels), len(images))
        class_names = tuple(str(label) for label in range(labels.max() + 1))
    name = f"arrays of shape {images.shape}"
    return _from_arrays(name, images, labels, class_names)


def read_fashion_mnist_idx(
    path: str | os.PathLike, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split of the Fashion-MNIST (or MNIST) IDX files.

    Returns:
        uint8 `[N, 28, 28, 1]` and uint8 `[N]`.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise ValueError(f"split must be 'train' or 'test'. Received: {split!r}")
    folder = existing_folder("path", path)
    images = _read_idx(folder, f"{prefixes[split]}-images-idx3-ubyte", dimensions=3)
    labels = _read_idx(folder, f"{prefixes[split]}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise ValueError(
            "path must hold as many labels as images. "
            f"Received: {len(labels)} and {len(images)} in {folder}"
        )
    return images[..., None], labels


def _from_arrays(name, images, labels, class_names):
    if images.ndim == 3:
        images = images[..., None]
    # Tensors that all datasets capture, so that no graph holds a copy as a constant; on
    # the host, since the accelerator's memory is for the model.
    with tf.device("CPU"):
        images = tf.constant(images)
        if labels is not None:
            labels = tf.constant(labels, tf.int64)

    def fetch(place):
        example = {"image": images[place]}
        return example if labels is None else example | {"label": labels[place]}

    def contents():
        return images.numpy().tobytes(), _bytes(labels)

    values = None if labels is None else labels.numpy()
    log_classes(name, len(images), class_names, values)
    height, width, channels = images.shape[1:]
    rows = Rows(len(images), fetch, contents)
    if labels is not None:
        rows = dataclasses.replace(rows, labels=labels.numpy)
    return ImageData(name, len(images), channels, (height, width), class_names, rows)


def _bytes(labels):
    return b"" if labels is None else labels.numpy().tobytes()


def _as_array(name, values):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array. Received: a {type(values).__name__} of parts of "
            "different shapes"
        ) from error


def _checked_labels(labels, num_images):
    if labels.shape != (num_images,):
        raise ValueError(
            f"labels must be of shape ({num_images},), one per image. "
            f"Received: {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers from 0 on. Received: {labels.dtype}")
    if labels.min() < 0:
        raise ValueError(f"labels must be integers from 0 on. Received: {labels.min()}")
    return labels


def _read_idx(folder, file, dimensions):
    """uint8 array of an IDX file, which holds a magic number, the sizes, the bytes."""
    path = folder / file
    if not path.is_file():
        path = folder / f"{file}.gz"
    if not path.is_file():
        raise ValueError(
            f"path must hold {file} or {file}.gz. Received: {folder} without it"
        )
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            data = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"path must hold readable files. Received: {path}") from error
    header = 4 * (dimensions + 1)
    numbers = np.frombuffer(data[:header].ljust(header), ">u4").tolist()
    magic, shape = numbers[0], numbers[1:]
    if magic != 0x800 + dimensions or len(data) != header + math.prod(shape):
        raise ValueError(
            f"path must hold complete IDX files of uint8 data with {dimensions} "
            f"dimensions. Received: {path}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
