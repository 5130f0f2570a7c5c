"""Images of a run without augmentation, for monitors and the report."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.data.sources import PARALLEL, untuned
from byol_keras.views.transforms import resize_center_crop


class PlainImages(NamedTuple):
    """Images without augmentation.

    Args:
        images: float32 `[N, H, W, C]` in 0..1.
        files: int64 `[N, 3]`: height and width in pixels before resizing, and bytes;
            None if the images are not stored as files.
    """

    images: np.ndarray
    files: np.ndarray | None = None


def take_plain_images(data, shape, count: int, seed: int) -> PlainImages:
    """Reads the first images of a run's order into memory; see `plain_examples`."""
    batch = plain_examples(data, shape, count, seed).batch(count)
    found = next(iter(batch.take(1)))
    files = found["file"].numpy()
    return PlainImages(found["image"].numpy(), files if files.all() else None)


def plain_examples(data, shape, count: int, seed: int) -> tf.data.Dataset:
    """The first images of a run's order, none of them twice, as a network's input.

    Unreadable images are left out, where they are known by their places.

    Args:
        data: `data.ImageData`.
        shape: height, width and channels. A square shape crops the middle of images of
            another size, after resizing their shorter side; others are only resized.
        count: int. Number of images, or all if there are fewer.
        seed: int. Of the order of the images.

    Returns:
        Dataset of dicts: `image`, float32 `shape` in 0..1; `label`, -1 without labels;
        `file`, int64 `[3]`, the height, width and bytes of its file, or zeros.
    """
    count = min(count, data.num_examples)
    examples = _examples(data, count, seed)
    return examples.map(_prepared(data, shape), **PARALLEL).with_options(untuned())


def _examples(data, count, seed):
    places = data.places(seed, 0, data.num_examples, count)
    if places is None:
        return data.stream(seed).take(count)
    # One that replaces an unreadable image has its own place, too.
    chosen = data.subset(np.array([*dict.fromkeys(places)]), data.name)
    return chosen.source.ordered()


def _prepared(data, shape):
    """A function from one element to the images, labels and files of `PlainImages`."""
    height, width, channels = shape

    def prepare(element):
        image = data.decode(element["image"])
        file = _file(element["image"], image)
        if data.image_size == (height, width):
            image = to_float(image)
        elif height == width:
            image = resize_center_crop(image, height, height)
        else:
            image = to_float(image)
            image = tf.image.resize(image, (height, width), antialias=True)
        image = tf.ensure_shape(image, (height, width, channels))
        label = element.get("label", tf.constant(-1))
        return {"image": image, "label": label, "file": file}

    return prepare


def _file(stored, image):
    """int64 `[3]` of an encoded image; zeros for one that is stored as an array."""
    if stored.dtype != tf.string:
        return tf.zeros(3, tf.int64)
    sides = tf.cast(tf.shape(image)[:2], tf.int64)
    size = tf.cast(tf.strings.length(stored), tf.int64)
    return tf.concat([sides, size[None]], axis=0)
