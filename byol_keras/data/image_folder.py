"""Images from TFDS, prepared TFDS folders, image folders, IDX files and arrays.

Every constructor returns an `ImageData`, which reads them in a reproducible order.
"""

import gzip
import importlib.resources
import math
import os
import pathlib
import zlib

import gin
import numpy as np
import tensorflow as tf

from byol_keras.data import array_files, image_files, tfds
from byol_keras.data.image_data import ImageData
from byol_keras.data.sources import Rows
from byol_keras.data.unreadable import MAX_BAD_SHARE

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


@gin.register(module="byol_keras")
def tfds_dataset(
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    manual_dir: str | None = None,
    download: bool = True,
    image_key: str = "image",
    label_key: str | None = "label",
    shuffle_buffer: int = 50_000,
) -> ImageData:
    """Any dataset of TensorFlow Datasets; it is downloaded if it is not prepared yet.

    Args:
        name: str. With configuration and version where needed: `"cifar10:3.0.2"`.
        split: str. Also slices, such as `"train[:90%]"`, and sums.
        data_dir: folder of prepared datasets. Defaults to that of TFDS.
        manual_dir: folder of files that have to be downloaded by hand, where the
            dataset (ImageNet, for one) asks for that.
        download: bool. False: only what is prepared already.
        image_key: name of the image feature.
        label_key: name of the class feature. None: without labels. A dataset that has
            no feature of the default name is read without labels.
        shuffle_buffer: int. Only for splits of more than 256 MB: so many encoded
            images are held in memory to be shuffled, after the record files have been.
            Smaller splits are held in memory and shuffled completely.

    Returns:
        `ImageData` of the split.

    Raises:
        ValueError: if the name, the split or a feature does not exist, or the dataset
            cannot be prepared.
    """
    builder = tfds.find_builder(name, data_dir)
    if not builder.is_prepared():
        tfds.prepare(builder, name, manual_dir, download)
    return tfds.images_of_builder(builder, split, image_key, label_key, shuffle_buffer)


@gin.register(module="byol_keras")
def tfds_folder(
    path: str | os.PathLike,
    split: str = "train",
    image_key: str = "image",
    label_key: str | None = "label",
    shuffle_buffer: int = 50_000,
) -> ImageData:
    """A folder that TFDS has prepared: dataset_info.json, features.json, records.

    Args:
        path: the folder that holds dataset_info.json, as `.../cifar10/3.0.2`.
        split, image_key, label_key, shuffle_buffer: see `tfds_dataset`.

    Returns:
        `ImageData` of the split.

    Raises:
        ValueError: if the folder is not a prepared dataset, or the split or a feature
            does not exist.
    """
    builder = tfds.folder_builder(_existing_folder(path))
    return tfds.images_of_builder(builder, split, image_key, label_key, shuffle_buffer)


@gin.register(module="byol_keras")
def fashion_mnist_small(split: str = "train") -> ImageData:
    """The dataset in this package: 10,000 train and 2,000 test images, 28 x 28 grey.

    Source: Fashion-MNIST (arXiv 1708.07747); the selection is that of
        assets/make_fashion_mnist_small.py.
    """
    assets = importlib.resources.files(__package__) / "assets"
    return tfds_folder(os.fspath(assets / "fashion_mnist_small" / "1.0.0"), split)


@gin.register(module="byol_keras")
def fashion_mnist_idx(path: str | os.PathLike, split: str = "train") -> ImageData:
    """The original IDX files of Fashion-MNIST: 60,000 train and 10,000 test images.

    Args:
        path: folder of the four files, gzipped or not; Debian's package
            dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: if a file is missing or is no such IDX file.
    """
    images, labels = read_fashion_mnist_idx(path, split)
    name = f"Fashion-MNIST IDX files in {path}, split {split}"
    return _from_arrays(name, images, labels, FASHION_MNIST_CLASSES)


@gin.register(module="byol_keras")
def image_folder(
    path: str | os.PathLike,
    channels: int | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
) -> ImageData:
    """All images below a folder, in the order of their relative paths.

    JPEG, PNG, BMP, GIF, WebP, and TIFF where Pillow is installed; where there are none
    of these, arrays, which may have any number of channels: see `array_files`. Hidden
    files and folders are left out. Where all images lie in sub-folders, the first level
    of sub-folders are the classes; else there are no labels. Images that cannot be
    decoded are replaced by the rule in `bad_images`.

    Args:
        path: the folder.
        channels: 1 or 3. Defaults to that of the first images, 3 if they disagree.
            Arrays have what they have.
        max_bad_share: float in 0..1. What reads the images ends with an error as soon
            as more than this share of them is known to be unreadable.

    Returns:
        `ImageData` of encoded images of any size.

    Raises:
        ValueError: if there is no such folder, no image in it, or too many of the
            first images are unreadable; if an argument is out of its range.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be None, 1 or 3. Received: {channels!r}")
    folder = _existing_folder(path)
    files = image_files.find_images(folder, otherwise=array_files.SUFFIXES)
    paths = [os.path.join(folder, file) for file in files]
    of_arrays = files[0].lower().endswith(array_files.SUFFIXES)
    reader = array_files if of_arrays else image_files
    found = reader.common_channels(paths, folder, max_bad_share)
    if of_arrays and channels not in (None, found):
        raise ValueError(
            f"channels must be None or those of the arrays, {found}. "
            f"Received: {channels}"
        )
    class_names, labels = None, None
    if all("/" in file for file in files):
        classes = [file.split("/")[0] for file in files]
        class_names = tuple(sorted(set(classes)))
        label_of = {name: label for label, name in enumerate(class_names)}
        labels = [label_of[name] for name in classes]
    channels = channels or found
    return ImageData(
        f"images in {folder}",
        len(paths),
        channels,
        None,
        class_names,
        reader.file_rows(paths, labels, channels, max_bad_share),
        names=files,
    )


@gin.register(module="byol_keras")
def arrays(images: np.ndarray, labels: np.ndarray | None = None) -> ImageData:
    """Images in memory, of any number of channels.

    Args:
        images: uint8 `[N, H, W, C]`, or `[N, H, W]` for one channel.
        labels: integers `[N]`, from 0 on, or None.

    Raises:
        ValueError: if a dtype or a shape is another.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8. Received: {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            "images must be of shape [N, H, W, C] or [N, H, W], none of them 0. "
            f"Received: {images.shape}"
        )
    class_names = None
    if labels is not None:
        labels = _checked_labels(np.asarray(labels), len(images))
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
    folder = _existing_folder(path)
    images = _read_idx(folder, f"{prefixes[split]}-images-idx3-ubyte", dimensions=3)
    labels = _read_idx(folder, f"{prefixes[split]}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise ValueError(
            "path must hold as many labels as images. "
            f"Received: {len(labels)} and {len(images)} in {folder}"
        )
    return images[..., None], labels


def _existing_folder(path) -> pathlib.Path:
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        raise ValueError(f"path must be an existing folder. Received: {path}")
    return path


def _from_arrays(name, images, labels, class_names):
    if images.ndim == 3:
        images = images[..., None]
    # Made once and captured by every dataset, never a constant of a graph; on the
    # host, since an accelerator's memory is for the model.
    with tf.device("CPU"):
        images = tf.constant(images)
        if labels is not None:
            labels = tf.constant(labels, tf.int64)

    def fetch(place):
        example = {"image": images[place]}
        return example if labels is None else example | {"label": labels[place]}

    height, width, channels = images.shape[1:]
    rows = Rows(
        len(images),
        fetch,
        contents=lambda: (images.numpy().tobytes(), _bytes(labels)),
        labels=None if labels is None else labels.numpy,
    )
    return ImageData(name, len(images), channels, (height, width), class_names, rows)


def _bytes(labels):
    return b"" if labels is None else labels.numpy().tobytes()


def _checked_labels(labels, num_images):
    if labels.shape != (num_images,):
        raise ValueError(
            f"labels must be of shape ({num_images},), one per image. "
            f"Received: {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            "labels must be integers from 0 on. "
            f"Received: {labels.dtype} from {labels.min()}"
        )
    return labels


def _read_idx(folder, file, dimensions):
    """uint8 array of an IDX file: magic number, sizes, then the bytes."""
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
