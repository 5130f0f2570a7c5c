"""Images from TFDS, prepared TFDS folders, image folders, IDX files and arrays.

Every constructor returns an `ImageData`, which reads them in a reproducible order.
"""

from byol_keras.data.arrays import (
    FASHION_MNIST_CLASSES,
    arrays,
    fashion_mnist_idx,
    read_fashion_mnist_idx,
)
from byol_keras.data.image_data import ImageData
from byol_keras.data.image_folder import image_folder
from byol_keras.data.tfds import fashion_mnist_small, tfds_dataset, tfds_folder

__all__ = [
    "FASHION_MNIST_CLASSES",
    "ImageData",
    "arrays",
    "fashion_mnist_idx",
    "fashion_mnist_small",
    "image_folder",
    "read_fashion_mnist_idx",
    "tfds_dataset",
    "tfds_folder",
]
