"""Small datasets of every kind, in the layouts in which the real ones are published."""

import gzip
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import RandomHorizontalFlip, RandomResizedCrop, TwoViews, data
from byol_keras.data.assets import make_fashion_mnist_small as maker
from byol_keras.data.image_data import ImageData
from byol_keras.data.published import VOC_CLASSES
from byol_keras.data.sources import Rows

# Images per step where a test of workers shares them.
BATCH = 8

# Where Debian's package dataset-fashion-mnist installs the original files.
IDX_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
needs_idx = pytest.mark.skipif(
    not IDX_FOLDER.is_dir(), reason="the IDX files of Fashion-MNIST are not installed"
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


def small_views():
    layers = [RandomResizedCrop(size=2), RandomHorizontalFlip()]
    return TwoViews(layers, layers)


def make_arrays(num_examples=11):
    images = np.arange(num_examples, dtype=np.uint8)[:, None, None, None]
    return data.arrays(
        np.broadcast_to(images, (num_examples, 2, 2, 1)), np.arange(num_examples)
    )


def make_folder(path, num_images=11):
    """A folder with one class per image, so that labels identify images."""
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


WNIDS = ("n01440764", "n01443537", "n01484850")


def write_jpeg(path, number, height=6, width=5):
    image = np.full((height, width, 3), number, np.uint8)
    write(path, tf.io.encode_jpeg(image, quality=100))


def write_text(path, lines):
    write(path, "".join(f"{line}\n" for line in lines).encode())


def numbers(data):
    """The numbers of the images, in stored order."""
    return [int(example["image"][0, 0, 0]) for example in data.ordered()]


def make_places205(
    folder, separator=" ", images="data/vision/torralba/deeplearning/images256"
):
    """Three scenes; train: images 0..5 with labels 2 0 1 2 0 1; val: 6 7 8, 0 1 2."""
    scenes = ("a/abbey", "c/church/outdoor", "z/zoo")
    for split, labels, first in (
        ("train", (2, 0, 1, 2, 0, 1), 0),
        ("val", range(3), 6),
    ):
        lines = []
        for number, label in enumerate(labels, start=first):
            file = f"{scenes[label]}/gsun_{number}.jpg"
            write_jpeg(folder / images / file, number)
            lines.append(f"{file}{separator}{label}")
        write_text(folder / f"trainvalsplit_places205/{split}_places205.csv", lines)
    return folder


def make_inaturalist2018(folder):
    """Three species; train: images 0..4 with labels 1 0 2 1 0; val: 5 6 7, 0 1 2."""
    categories = [{"id": label, "name": f"species {label}"} for label in (2, 0, 1)]
    for split, labels, first in (("train", (1, 0, 2, 1, 0), 0), ("val", range(3), 5)):
        images, annotations = [], []
        for number, label in enumerate(labels, start=first):
            file = f"train_val2018/Aves/{label}/{number}.jpg"
            write_jpeg(folder / file, number)
            images.append({"id": 100 + number, "file_name": file})
            annotations.append({"image_id": 100 + number, "category_id": label})
        content = {
            "images": images,
            "annotations": annotations[::-1],  # tied by id, not by place
            "categories": categories,
        }
        write(folder / f"{split}2018.json", json.dumps(content).encode())
    return folder


def make_imagenet(folder, flat_val=False):
    """Three classes; train: two images each, 0..5; val: one each, 6 7 8.

    With `flat_val`, the validation images have the labels 2 0 1, from a list.
    """
    for number in range(6):
        wnid = WNIDS[number // 2]
        write_jpeg(folder / "train" / wnid / f"{wnid}_{number}.JPEG", number)
    files = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (6, 7, 8)]
    for number, file, wnid in zip((6, 7, 8), files, WNIDS, strict=True):
        write_jpeg(folder / "val" / ("" if flat_val else wnid) / file, number)
    if flat_val:
        lines = [
            f"{file} {label}" for file, label in zip(files, (2, 0, 1), strict=True)
        ]
        write_text(folder / "val.txt", lines)
    return folder


def make_vocdevkit(folder, year="2007", splits=("trainval", "test"), num_images=6):
    """`num_images` images per split, of which image i shows the classes i and i + 1.

    The class i + 2 is "difficult" in image i. Images count on from split to split, and
    classes from 0 in every split.
    """
    base = folder / "VOCdevkit" / f"VOC{year}"
    for part, split in enumerate(splits):
        for number in range(num_images):
            image = part * num_images + number
            write_jpeg(base / f"JPEGImages/{image:06}.jpg", image)
        for place, name in enumerate(VOC_CLASSES):
            lines = []
            for number in range(num_images):
                value = {0: " 1", 1: " 1", 2: " 0"}.get(place - number, "-1")
                lines.append(f"{part * num_images + number:06} {value}")
            write_text(base / f"ImageSets/Main/{name}_{split}.txt", lines)
    return folder


def make_multi_label(num_examples=60, classes=3, seed=0, ignored=0.0, noise=60):
    """4 x 4 images: channel c is brighter where the image is of class c.

    Returns:
        `ImageData`, uint8 images `[N, 4, 4, classes]`, int64 labels `[N, classes]`.
    """
    rng = np.random.default_rng(seed)
    labels = (rng.random((num_examples, classes)) < 0.35).astype(np.int64)
    means = 40 + 80 * labels + rng.normal(0, noise, labels.shape)
    images = np.clip(means, 0, 255).astype(np.uint8)
    images = np.broadcast_to(images[:, None, None], (num_examples, 4, 4, classes))
    labels[rng.random(labels.shape) < ignored] = -1
    return image_data(images, labels), images, labels


def image_data(images, labels, name="tiny"):
    """`ImageData` of uint8 `[N, H, W, C]` and int64 `[N, classes]`."""
    rows = Rows(
        len(images),
        lambda i: {"image": tf.gather(images, i), "label": tf.gather(labels, i)},
        contents=lambda: (images.tobytes(), labels.tobytes()),
        labels=lambda: labels,
    )
    names = tuple(f"class {c}" for c in range(labels.shape[1]))
    shape = images.shape
    return ImageData(name, len(images), shape[-1], shape[1:3], names, rows)


def mean_colour(channels=3):
    """Backbone of two features: `feature5`, the image, and `avgpool`, its mean."""
    images = keras.Input((None, None, channels))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, {"feature5": images, "avgpool": pooled})


def numbered_images(folder, count, broken=(), channels=1):
    """A folder of images of their number, one class each, some of them broken."""
    for number in range(count):
        image = np.full((4, 5, channels), number, np.uint8)
        png = tf.io.encode_png(image).numpy()
        name = f"{number:03}"
        write(folder / name / f"{name}.png", b"" if number in broken else png)
    return data.image_folder(folder, channels=channels, max_bad_share=0.9)
