"""Small sources of images of every kind, for the tests of data."""

import gzip
import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.assets import make_fashion_mnist_small as maker

needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="Pillow is not installed"
)

GIF_TWO_FRAMES = (
    b"GIF89a\x02\x00\x01\x00\x80\x00\x00"  # 2 x 1, two colours:
    b"\xff\x00\x00\x00\x00\xff"  # red and blue
    b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x44\x0a\x00"  # red, blue
    b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x0c\x0a\x00"  # blue, red
    b"\x3b"
)


def random_image(rng, height=9, width=7, channels=3):
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path, encoded):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.numpy() if hasattr(encoded, "numpy") else encoded)


def bmp(image):
    """A 24-bit BMP, bottom row first, blue before red."""
    height, width, _ = image.shape
    rows = np.zeros((height, -(-width * 3 // 4) * 4), np.uint8)
    rows[:, : width * 3] = image[::-1, :, ::-1].reshape(height, -1)
    sizes = np.array([54 + rows.size, 0, 54, 40, width, height], "<u4").tobytes()
    planes = np.array([1, 24], "<u2").tobytes()
    rest = np.array([0, rows.size, 2835, 2835, 0, 0], "<u4").tobytes()
    return b"BM" + sizes + planes + rest + rows.tobytes()


def make_arrays(num_examples=11):
    images = np.arange(num_examples, dtype=np.uint8)[:, None, None, None]
    return data.arrays(
        np.broadcast_to(images, (num_examples, 2, 2, 1)), np.arange(num_examples)
    )


def make_folder(path, num_images=11):
    """One class per image, so that the label tells the image."""
    for number in range(num_images):
        image = np.full((4, 5, 1), number, np.uint8)
        write(path / f"{number:02}" / "image.png", tf.io.encode_png(image))
    return data.image_folder(path)


def write_idx(folder, split, images, labels, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    prefix = {"train": "train", "test": "t10k"}[split]
    for name, array, magic in (
        ("images-idx3-ubyte", images, 0x803),
        ("labels-idx1-ubyte", labels, 0x801),
    ):
        content = np.array([magic, *array.shape], ">u4").tobytes() + array.tobytes()
        path = folder / f"{prefix}-{name}{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(content) if compress else content)


def make_idx_folder(folder, num_images=40):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (num_images, 28, 28), dtype=np.uint8)
        write_idx(folder, split, images, np.arange(num_images, dtype=np.uint8) % 10)
    return folder


def make_records(folder: pathlib.Path) -> pathlib.Path:
    """A prepared TFDS folder: 40 train images in 3 files, the first pixel counts."""
    images = np.zeros((40, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(40)
    for split in ("train", "test"):
        write_idx(folder / "idx", split, images, np.arange(40, dtype=np.uint8) % 10)
    path = folder / "fashion_mnist_small" / "1.0.0"
    maker.make(
        folder / "idx", path, train_per_class=4, test_per_class=1, train_shards=3
    )
    return path
