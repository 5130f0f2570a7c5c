"""Makes the dataset of this package: 12,000 images of Fashion-MNIST.

The selection is fixed: the first 1,000 training images and the first 200 test images
of every class, in the order of the original IDX files. The same IDX files give the
same folder, byte for byte. README.md in this folder has origin and licence.

    python -m byol_keras.data.assets.make_fashion_mnist_small \
        --idx_dir=/usr/share/datasets/fashion-mnist --out_dir=fashion_mnist_small/1.0.0

The Debian package dataset-fashion-mnist installs the IDX files of the example.
"""

import argparse
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras.data import FASHION_MNIST_CLASSES, read_fashion_mnist_idx
from byol_keras.data.assets.prepared_folder import serialized, write_folder

NAME = "fashion_mnist_small"
DESCRIPTION = (
    "12,000 of the 70,000 images of Fashion-MNIST (28 x 28, grey, 10 classes of "
    "clothing): of every class the first 1,000 training and the first 200 test images, "
    "in the order of the original files."
)
LICENSE = """The MIT License (MIT) Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files (the "Software"), to deal in the Software
without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies
or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT
OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR
OTHER DEALINGS IN THE SOFTWARE.
"""
CITATION = """@article{xiao2017fashion,
  author  = {Han Xiao and Kashif Rasul and Roland Vollgraf},
  title   = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
             Algorithms},
  journal = {CoRR},
  volume  = {abs/1708.07747},
  year    = {2017},
  url     = {https://arxiv.org/abs/1708.07747},
}"""


def make(
    idx_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    train_per_class: int = 1000,
    test_per_class: int = 200,
    train_shards: int = 4,
) -> None:
    """Writes the selection as a prepared TFDS folder.

    Args:
        idx_dir: folder of the four IDX files, gzipped or not.
        out_dir: folder to write; created if it does not exist.
        train_per_class: int. Training images per class.
        test_per_class: int. Test images per class.
        train_shards: int. Record files of the training split.
    """
    splits = {}
    for split, per_class, num_shards in (
        ("train", train_per_class, train_shards),
        ("test", test_per_class, 1),
    ):
        images, labels = read_fashion_mnist_idx(idx_dir, split)
        rows = first_of_each_class(labels, per_class)
        records = [
            serialized(
                tf.io.encode_png(images[row], compression=9).numpy(), labels[row]
            )
            for row in rows
        ]
        splits[split] = records, num_shards
    write_folder(
        out_dir,
        NAME,
        splits,
        tfds.features.Image(shape=(28, 28, 1), dtype=np.uint8, encoding_format="png"),
        FASHION_MNIST_CLASSES,
        description=DESCRIPTION,
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        citation=CITATION,
        license=LICENSE,
    )


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Places of the first `per_class` examples of every class, in ascending order."""
    places = [
        np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(places))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idx_dir", required=True, help="folder of the IDX files")
    parser.add_argument("--out_dir", required=True, help="folder to write")
    args = parser.parse_args()
    make(args.idx_dir, args.out_dir)


if __name__ == "__main__":
    main()
