"""Tiny data whose images are of several classes, for the tests of SVMs."""

import keras
import numpy as np
import tensorflow as tf

from byol_keras.image_data import ImageData
from byol_keras.sources import Rows


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
