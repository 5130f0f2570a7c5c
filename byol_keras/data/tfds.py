"""Datasets of TensorFlow Datasets as `ImageData`."""

import importlib.resources
import os

import gin

from byol_keras.data.image_data import ImageData
from byol_keras.runtime.argument_checks import existing_folder


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
    """A dataset of TensorFlow Datasets, downloaded if it is not prepared yet.

    Args:
        name: str. With configuration and version where needed, as `"cifar10:3.0.2"`.
        split: str. Slices such as `"train[:90%]"` and sums are allowed.
        data_dir: folder of prepared datasets. Defaults to that of TFDS.
        manual_dir: folder of files that you have downloaded by hand, for datasets that
            require it, such as ImageNet.
        download: bool. False reads only prepared datasets.
        image_key: name of the image feature.
        label_key: name of the class feature; None reads no labels. A dataset without a
            feature of the default name has no labels.
        shuffle_buffer: int. For splits of more than 256 MB: number of encoded images
            in the buffer that shuffles the records of the shuffled files. Smaller
            splits are held in memory and shuffled completely.

    Returns:
        `ImageData` of the split. Images are decoded as TFDS does: EXIF orientation is
        not applied, unlike in `image_folder`.

    Raises:
        ValueError: if the name, the split or a feature does not exist, or the dataset
            cannot be prepared.
    """
    from byol_keras.data import tfds_builders

    builder = tfds_builders.find_builder(name, data_dir)
    if not builder.is_prepared():
        tfds_builders.prepare(builder, name, manual_dir, download)
    return tfds_builders.images_of_builder(
        builder, split, image_key, label_key, shuffle_buffer
    )


@gin.register(module="byol_keras")
def tfds_folder(
    path: str | os.PathLike,
    split: str = "train",
    image_key: str = "image",
    label_key: str | None = "label",
    shuffle_buffer: int = 50_000,
) -> ImageData:
    """A folder that TFDS has prepared: dataset_info.json, features.json, record files.

    Args:
        path: the folder of dataset_info.json, as `.../cifar10/3.0.2`.
        split, image_key, label_key, shuffle_buffer: see `tfds_dataset`.

    Returns:
        `ImageData` of the split.

    Raises:
        ValueError: if the folder is not a prepared dataset, or the split or a feature
            does not exist.
    """
    from byol_keras.data import tfds_builders

    builder = tfds_builders.folder_builder(existing_folder("path", path))
    return tfds_builders.images_of_builder(
        builder, split, image_key, label_key, shuffle_buffer
    )


@gin.register(module="byol_keras")
def clothing_small(split: str = "train") -> ImageData:
    """Photographs of clothes in this package: 2,781 train and 1,000 test images.

    Color, with a short side of 64 pixels; 10 classes of different sizes.

    Source: clothing-dataset-small (CC0), reduced by assets/make_clothing_small.py.
    """
    return _of_package("clothing_small", split)


@gin.register(module="byol_keras")
def fashion_mnist_small(split: str = "train") -> ImageData:
    """Grey images in this package, 28 x 28: 10,000 train and 2,000 test images.

    Source: Fashion-MNIST (arXiv 1708.07747), selected by
        assets/make_fashion_mnist_small.py.
    """
    return _of_package("fashion_mnist_small", split)


def _of_package(name, split):
    assets = importlib.resources.files(__package__) / "assets"
    return tfds_folder(os.fspath(assets / name / "1.0.0"), split)
