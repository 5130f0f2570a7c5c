"""Frozen features of labelled images, for kNN, linear classifiers and SVMs."""

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.frozen.feature_cache import FeatureCache, computation_digest
from byol_keras.benchmarks.frozen.pooling import pool_feature
from byol_keras.data.decoding import to_float
from byol_keras.data.unreadable import note_left_out
from byol_keras.runtime.progress import tracked

_LABELS = "labels"


class Features(NamedTuple):
    """Features float32 `[N, D]` and labels int64 of one split, in stored order.

    Images that cannot be read are left out of both.
    Labels are `[N]`, or `[N, classes]` if an image can have several classes. Cached
    arrays are memory-mapped and read-only.
    """

    features: np.ndarray
    labels: np.ndarray


class NonfiniteFeatures(ValueError):
    """Features of a backbone with NaN or infinity, with which no score has a sense."""


def check_finite(features: np.ndarray, where: str) -> None:
    """Raises `NonfiniteFeatures` unless all features `[N, D]` of `where` are finite."""
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise NonfiniteFeatures(
            "the backbone's features must be finite. Received: NaN or infinity for "
            f"{np.sum(~finite)} of {len(finite)} images of {where}"
        )


def extract_features(
    backbone: keras.Model,
    data,
    transform: Callable | None = None,
    feature: str = "avgpool",
    batch_size: int = 256,
) -> Features:
    """One feature of all images; see `extract_all`."""
    return extract_all(backbone, data, [feature], transform, batch_size)[feature]


@gin.configurable(module="byol_keras")
def extract_all(
    backbone: keras.Model,
    data,
    features: Sequence[str],
    transform: Callable | None = None,
    batch_size: int = 256,
    cache_dir: str | None = None,
) -> dict[str, Features]:
    """Runs a backbone in inference mode over a labelled split, once for all features.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        data: `ImageData` with labels.
        features: names; see `read_feature`.
        transform: uint8 `[h, w, C]` -> float32 `[H, W, C]` in 0..1. None uses the
            stored images, which must then have one size.
        batch_size: int. Images per forward pass.
        cache_dir: folder to store features in and reuse them from. None keeps them in
            memory.

    Returns:
        `Features` by name, of all readable images, in stored order.

    Raises:
        ValueError: for data without labels, of another channel count than the
            backbone's, or of different sizes without a `transform`; for a feature
            that the backbone does not return; for features that are not finite; for
            negative labels, which TFDS gives to images with undisclosed classes.
    """
    _check_data(backbone, data, transform)
    batches = _batches(data, transform, batch_size)
    if not cache_dir:
        arrays = _run(backbone, features, batches, data, _in_memory)
    else:
        cache = FeatureCache(cache_dir)
        keys = _keys(backbone, features, transform, data, batches.element_spec[0])
        arrays = _stored(cache, keys, data)
        missing = [name for name in features if name not in arrays]
        if missing or _LABELS not in arrays:
            _store(cache, keys, backbone, missing, batches, data)
            arrays = _stored(cache, keys, data)
        if len(arrays) < len(keys):  # a file broke after the others were stored
            _store(cache, keys, backbone, features, batches, data)
            arrays = {name: cache.read(key) for name, key in keys.items()}
    labels = arrays[_LABELS]
    note_left_out(data.name, data.num_examples - len(labels))
    return {name: Features(arrays[name], labels) for name in features}


def _stored(cache, keys, data):
    """Stored arrays by name, those with a row for each readable image."""
    arrays = {name: cache.read(key) for name, key in keys.items()}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    rows = data.num_examples
    if any(len(array) < rows for array in arrays.values()):
        rows = data.readable().num_examples
    return {name: array for name, array in arrays.items() if len(array) == rows}


def _store(cache, keys, backbone, features, batches, data):
    arrays = {}
    with contextlib.ExitStack() as files:

        def in_file(name, shape, dtype):
            file = cache.write(keys[name], shape, dtype, lambda: len(arrays[_LABELS]))
            return files.enter_context(file)

        arrays |= _run(backbone, features, batches, data, in_file)


def read_feature(outputs, name: str) -> tf.Tensor:
    """One feature of a backbone's outputs, as `[B, D]`.

    Args:
        outputs: dict of features, or a tensor `[B, D]`, which is its "avgpool".
        name: a key of the dict, whose maps are flattened; or "pooled1" to "pooled5":
            feature1 to feature5 pooled as `pooling.pool_feature` does and flattened
            channels first, as torch does.

    Raises:
        ValueError: if the backbone does not return it.
    """
    if not isinstance(outputs, dict):
        outputs = {"avgpool": outputs}
    level = re.fullmatch("pooled([1-5])", name)
    key = f"feature{level[1]}" if level else name
    if key not in outputs:
        raise ValueError(
            f"feature must be one of the backbone's {sorted(outputs)}. "
            f"Received: {key!r}"
        )
    values = outputs[key]
    if level:
        values = tf.transpose(pool_feature(values, int(level[1])), [0, 3, 1, 2])
    return tf.reshape(tf.cast(values, tf.float32), [tf.shape(values)[0], -1])


def _batches(data, transform, batch_size):
    """Dataset of images float32 `[B, H, W, C]` in 0..1 and labels, in stored order."""

    def transformed(example):
        return example | {"image": transform(example["image"])}

    def as_float(examples):
        return to_float(examples["image"]), examples["label"]

    dataset = data.ordered()
    if transform:
        dataset = dataset.map(transformed, num_parallel_calls=tf.data.AUTOTUNE)
    # Mapping batches takes far fewer calls than mapping single images.
    return dataset.batch(batch_size).map(as_float).prefetch(tf.data.AUTOTUNE)


def _forward(backbone, features, images):
    outputs = backbone(images, training=False)
    return {name: read_feature(outputs, name) for name in features}


def _keys(backbone, features, transform, data, images):
    """Digest of everything that determines each array, by name."""
    # Earlier versions stored a row for each unreadable image, too.
    pixels = ["of readable images", data.digest(), "stored"]
    if transform:
        image = data.ordered().element_spec["image"]
        pixels[-1] = computation_digest(transform, image)
    keys = {_LABELS: _digest(pixels[:-1])}
    for name in features:
        forward = functools.partial(_forward, backbone, [name])
        keys[name] = _digest([*pixels, computation_digest(forward, images)])
    return keys


def _digest(parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _in_memory(name, shape, dtype):
    return np.empty(shape, dtype)


def _run(backbone, features, batches, data, allocate):
    """Arrays by name, with the labels among them, filled batch by batch.

    Unreadable images are left out: the arrays are then the first part of those that
    were allocated.
    """
    forward = functools.partial(_forward, backbone, features)
    # Each call needs a new graph. Calling the function itself would make TensorFlow
    # warn of needless retracing.
    forward = tf.function(forward).get_concrete_function(batches.element_spec[0])
    arrays, position = {}, 0
    title = f"features of {data.name}"
    for images, labels in tracked(batches, title, transient=True):
        _refuse_secret(labels, data)
        found = {name: value.numpy() for name, value in forward(images).items()}
        for name, block in found.items():
            check_finite(block, f"a batch of {data.name}, {name}")
        for name, block in (found | {_LABELS: labels.numpy()}).items():
            if name not in arrays:
                shape = (data.num_examples, *block.shape[1:])
                arrays[name] = allocate(name, shape, block.dtype)
            arrays[name][position : position + len(block)] = block
        position += len(labels)
    return {name: array[:position] for name, array in arrays.items()}


def _refuse_secret(labels, data):
    if labels.shape.rank == 1 and tf.reduce_min(labels) < 0:
        raise ValueError(
            f"labels must be 0 or more. Received: {tf.reduce_min(labels)} in "
            f"{data.name}"
        )


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
