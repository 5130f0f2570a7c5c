"""Frozen features of labelled images: what kNN, linear probes and SVMs start from."""

from collections.abc import Callable
from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf


class Features(NamedTuple):
    """Features float32 `[N, D]` and labels int64 `[N]` of one split, as stored."""

    features: np.ndarray
    labels: np.ndarray


@gin.register
def resize_center_crop(
    image: tf.Tensor, size: int = 224, resize: int = 256, interpolation="bilinear"
) -> tf.Tensor:
    """Short side to `resize`, then the central `size` x `size`.

    Args:
        image: uint8 `[h, w, C]`.
        size, resize: int. Pixels.
        interpolation: "bilinear" or "bicubic", antialiased as PIL does.

    Returns:
        float32 `[size, size, C]` in 0..1.

    Raises:
        ValueError: if `size` is not within 1 and `resize`.

    Source: mmselfsup 0.x, evaluation pipelines of its benchmarks.
    Deviation: pixels stay in float after the resize; Pillow rounds them to uint8.
    """
    if not 1 <= size <= resize:
        raise ValueError(f"size must be within 1 and resize={resize}. Received: {size}")
    short = tf.cast(tf.reduce_min(tf.shape(image)[:2]), tf.float32)
    scaled = tf.cast(tf.shape(image)[:2], tf.float32) * (resize / short)
    height_width = tf.maximum(tf.cast(tf.math.floor(scaled + 1e-4), tf.int32), resize)
    image = _resize(image, height_width, interpolation, antialias=True)
    # Half pixels round to even, as Python's `round` does in torchvision.
    margin = tf.cast(height_width - size, tf.float32) / 2.0
    top, left = tf.unstack(tf.cast(tf.round(margin), tf.int32))
    return tf.ensure_shape(
        image[top : top + size, left : left + size], [size, size, image.shape[-1]]
    )


@gin.register
def deepmind_center_crop(image: tf.Tensor, size: int = 224) -> tf.Tensor:
    """The central square of 7/8 of the short side, resized to `size` x `size`.

    Args:
        image: uint8 `[h, w, C]`.
        size: int. Pixels.

    Returns:
        float32 `[size, size, C]` in 0..1; bicubic without antialiasing.

    Source: DeepMind's `byol/utils/dataset.py`.
    """
    side, top, left = deepmind_crop_box(*tf.unstack(tf.shape(image)[:2]), size)
    crop = image[top : top + side, left : left + side]
    return _resize(crop, (size, size), "bicubic", antialias=False)


def deepmind_crop_box(height, width, size: int = 224):
    """Side, top and left of DeepMind's central crop, int32 scalars."""
    short = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(size / (size + 32) * short, tf.int32)
    return side, (height - side + 1) // 2, (width - side + 1) // 2


def _resize(image, height_width, interpolation, antialias):
    image = tf.image.resize(
        tf.cast(image, tf.float32) / 255.0,
        height_width,
        method=interpolation,
        antialias=antialias,
    )
    return tf.clip_by_value(image, 0.0, 1.0)


def extract_features(
    backbone: keras.Model,
    data,
    transform: Callable | None = None,
    feature: str = "avgpool",
    batch_size: int = 256,
) -> Features:
    """Runs a backbone in inference mode over a labelled split.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        data: `data.ImageData` with labels.
        transform: uint8 `[h, w, C]` -> float32 `[H, W, C]` in 0..1; None feeds images
            as they are stored, which must then be of one size.
        feature: key of the backbone's dict. Feature maps are flattened.
        batch_size: int. Images per forward pass.

    Returns:
        `Features` of all images, in stored order.

    Raises:
        ValueError: for data without labels, of another channel count than the
            backbone's, or of different sizes without a `transform`; for a feature
            that the backbone does not return; for a label below 0, by which TFDS marks
            images whose class is kept secret.
    """
    _check_data(backbone, data, transform)

    def prepare(element):
        image = element["image"]
        image = transform(image) if transform else tf.cast(image, tf.float32) / 255.0
        return image, element["label"]

    dataset = data.ordered().map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    forward = _forward(backbone, feature, dataset.element_spec[0])

    features, labels = None, np.empty(data.num_examples, np.int64)
    position = 0
    for images, batch_labels in dataset:
        block = forward(images).numpy()
        if features is None:
            features = np.empty((data.num_examples, block.shape[1]), np.float32)
        features[position : position + len(block)] = block
        labels[position : position + len(block)] = batch_labels.numpy()
        position += len(block)
    if labels.min() < 0:
        raise ValueError(
            f"labels must be 0 or more. Received: {labels.min()} in {data.name}"
        )
    return Features(features, labels)


def _forward(backbone, feature, images):
    """One graph, for batches of every size: images -> float32 `[B, D]`."""

    def forward(images):
        outputs = _select(backbone(images, training=False), feature)
        return tf.reshape(tf.cast(outputs, tf.float32), [tf.shape(images)[0], -1])

    # Each call makes a new graph; a plain call of the function would be taken for
    # needless retracing and warned of.
    return tf.function(forward).get_concrete_function(images)


def _check_data(backbone, data, transform):
    if data.class_names is None:
        raise ValueError(f"data of a benchmark must have labels. Received: {data.name}")
    if transform is None and data.image_size is None:
        raise ValueError(
            "images of different sizes need a transform, as resize_center_crop. "
            f"Received: {data.name}"
        )
    shape = getattr(backbone, "input_shape", None)
    channels = shape[-1] if isinstance(shape, tuple) else None
    if channels not in (None, data.channels):
        raise ValueError(
            f"data must have the backbone's {channels} channels. Received: {data.name}"
            f" with {data.channels}"
        )


def _select(outputs, feature):
    if not isinstance(outputs, dict):
        return outputs
    if feature not in outputs:
        raise ValueError(
            f"feature must be one of the backbone's {sorted(outputs)}. "
            f"Received: {feature!r}"
        )
    return outputs[feature]
