"""Images from folders, arrays, IDX files and TensorFlow Datasets, as `ImageData`.

`ImageData` yields them in a reproducible order. TensorFlow Datasets is imported when
one of its datasets is made.
"""

from byol_keras.data import (
    array_files,
    decoding,
    equal_files,
    folder_contents,
    image_bytes,
    image_files,
    orientation,
    published,
    published_folder,
    reach,
    readable_files,
    reduced_images,
    sources,
    spread,
    subsets,
    unreadable,
    value_range,
)
from byol_keras.data.arrays import (
    FASHION_MNIST_CLASSES,
    arrays,
    fashion_mnist_idx,
    read_fashion_mnist_idx,
)
from byol_keras.data.image_data import ImageData
from byol_keras.data.image_folder import image_folder
from byol_keras.data.tfds import (
    clothing_small,
    fashion_mnist_small,
    tfds_dataset,
    tfds_folder,
)

__all__ = [
    "FASHION_MNIST_CLASSES",
    "ImageData",
    "array_files",
    "arrays",
    "clothing_small",
    "decoding",
    "equal_files",
    "fashion_mnist_idx",
    "fashion_mnist_small",
    "folder_contents",
    "image_bytes",
    "image_files",
    "image_folder",
    "orientation",
    "published",
    "published_folder",
    "reach",
    "read_fashion_mnist_idx",
    "readable_files",
    "reduced_images",
    "sources",
    "spread",
    "subsets",
    "tfds_dataset",
    "tfds_folder",
    "unreadable",
    "value_range",
]
