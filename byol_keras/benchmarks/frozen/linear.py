"""Linear classification of frozen features by gradient descent: three protocols.

`linear` trains one classifier on the pooled output. `linear_sweep` trains one for each
base learning rate and selects one on held-out images. `linear_features` trains one for
each stage of the backbone, after a BatchNormalization.
"""

from collections.abc import Callable, Sequence

import gin
import keras
import numpy as np
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import Features, extract_all
from byol_keras.benchmarks.frozen.heads import Head, train_heads, training_feed
from byol_keras.benchmarks.frozen.pooling import LEVELS
from byol_keras.benchmarks.precision import check_batch_size
from byol_keras.benchmarks.splits import check_splits
from byol_keras.runtime.argument_checks import check_int
from byol_keras.schedules import RunLength

# Source: Grill et al. 2020, appendix C.1.
BASE_LEARNING_RATES = (0.4, 0.3, 0.2, 0.1, 0.05)


@gin.register(module="byol_keras")
def linear(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    optimizer_fn: Callable = gin.REQUIRED,
    learning_rate_fn: Callable = gin.REQUIRED,
    epochs: int = 90,
    batch_size: int = 4096,
    last_batch: str = "pad",
    train_view=None,
    transform: Callable | None = None,
    feature: str = "avgpool",
    best_epoch: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy of a linear classifier of one frozen feature.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        train_data, test_data: `ImageData` with labels of the same classes.
        optimizer_fn: (learning_rate) -> Keras optimizer.
        learning_rate_fn: (run_length) -> schedule or float.
        epochs: int. Passes over the training images.
        batch_size: int. Images per step, over all replicas.
        last_batch: "pad" or "carry"; see `schedules.RunLength`.
        train_view: `AugmentedView` of the training images. None trains on features
            that are computed once, which is much faster but not in the published
            protocols.
        transform: of the test images, and of the training images without a
            `train_view`; see `features.extract_all`.
        feature: output of the backbone to use; see `features.read_feature`.
        best_epoch: bool. Also report the best epoch on the test images, as published.
        seed: int. Of the order of the images, the augmentations and initial weights.

    Returns:
        `linear/top1` and `linear/top5` after the last epoch, and
        `linear/top1_best_epoch` with `best_epoch`, in percent.

    Raises:
        ValueError: for wrong arguments, and for splits that do not match the backbone
            or each other.

    Source: mmselfsup 0.x, resnet50_linear-8xb512-coslr-90e_in1k.
    """
    train_data = train_data.readable()
    check_splits("linear", train_data, test_data=test_data)
    _check_arguments("linear", optimizer_fn, learning_rate_fn, seed)
    length = _run_length("linear", train_data, batch_size, epochs, last_batch)
    optimizer = optimizer_fn(learning_rate=learning_rate_fn(length))
    test = extract_all(backbone, test_data, [feature], transform)[feature]
    feed = training_feed(
        backbone, train_data, [feature], length, seed, train_view, transform
    )
    size = _checked_size("linear", feed.sizes[feature], test)
    initializer = _normal(seed)
    classifier = _linear_classifier(size, len(train_data.class_names), initializer)
    head, top1s = Head(feature, classifier, optimizer), []

    def evaluate():
        top1s.append(_top1(head, test))

    train_heads([head], feed, length, "linear", evaluate if best_epoch else None)
    results = _top1_and_top5("linear", head, test)
    return results | ({"linear/top1_best_epoch": max(top1s)} if best_epoch else {})


@gin.register(module="byol_keras")
def linear_sweep(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    validation_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    optimizer_fn: Callable = gin.REQUIRED,
    learning_rate_fn: Callable = gin.REQUIRED,
    base_learning_rates: Sequence[float] = BASE_LEARNING_RATES,
    epochs: int = 80,
    batch_size: int = 1024,
    last_batch: str = "carry",
    train_view=None,
    transform: Callable | None = None,
    feature: str = "avgpool",
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy of a linear classifier whose learning rate is chosen on held-out data.

    All classifiers are trained together on the same batches. The test images are
    classified once, by the chosen classifier.

    Args:
        validation_data: `ImageData` with labels: images of the training split that are
            not in `train_data`. Of equally accurate rates the first is chosen.
        learning_rate_fn: (run_length, base_learning_rate) -> schedule or float.
        base_learning_rates: floats, per 256 images.
        backbone, train_data, test_data, optimizer_fn, epochs, batch_size, last_batch,
            train_view, transform, feature, seed: see `linear`.

    Returns:
        `linear_sweep/top1` and `linear_sweep/top5` of the test images and
        `linear_sweep/validation_top1`, in percent; `linear_sweep/base_learning_rate`,
        the chosen one.

    Raises:
        ValueError: as `linear`, and for base learning rates that are not positive.

    Source: Grill et al. 2020, appendix C.1. Initial weights are those of haiku's
        Linear, as in deepmind-research `byol/eval_experiment.py`, which trains only
        with a base learning rate of 0.2.
    """
    train_data = train_data.readable()
    check_splits(
        "linear_sweep", train_data, validation_data=validation_data, test_data=test_data
    )
    _check_arguments("linear_sweep", optimizer_fn, learning_rate_fn, seed)
    _check_rates(base_learning_rates)
    length = _run_length("linear_sweep", train_data, batch_size, epochs, last_batch)
    optimizers = [
        optimizer_fn(learning_rate=learning_rate_fn(length, base_learning_rate=base))
        for base in base_learning_rates
    ]
    validation, test = (
        extract_all(backbone, data, [feature], transform)[feature]
        for data in (validation_data, test_data)
    )
    feed = training_feed(
        backbone, train_data, [feature], length, seed, train_view, transform
    )
    size = _checked_size("linear_sweep", feed.sizes[feature], validation, test)
    initializer = keras.initializers.TruncatedNormal(stddev=size**-0.5, seed=seed)
    heads = [
        Head(
            feature,
            _linear_classifier(size, len(train_data.class_names), initializer),
            optimizer,
        )
        for optimizer in optimizers
    ]
    train_heads(heads, feed, length, "linear_sweep")
    top1s = [_top1(head, validation) for head in heads]
    best = int(np.argmax(top1s))
    return {
        **_top1_and_top5("linear_sweep", heads[best], test),
        "linear_sweep/validation_top1": top1s[best],
        "linear_sweep/base_learning_rate": float(base_learning_rates[best]),
    }


@gin.register(module="byol_keras")
def linear_features(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    optimizer_fn: Callable = gin.REQUIRED,
    learning_rate_fn: Callable = gin.REQUIRED,
    levels: Sequence[int] = LEVELS,
    epochs: int = 90,
    batch_size: int = 256,
    last_batch: str = "pad",
    train_view=None,
    transform: Callable | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy of a linear classifier of each stage's feature maps.

    The maps of a stage are pooled to about 9,000 numbers, normalized per channel by a
    BatchNormalization without scale and offset, and classified.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict with feature1 to feature5.
        levels: ints in 1..5. Stages to use.
        train_data, test_data, optimizer_fn, learning_rate_fn, epochs, batch_size,
            last_batch, train_view, transform, seed: see `linear`.

    Returns:
        `linear_features/feature<level>_top1` for every level, after the last epoch, and
        `linear_features/best_top1`, the best of them on the test images; in percent.

    Raises:
        ValueError: as `linear`, and unless the levels are distinct ints in 1..5.

    Source: mmselfsup 0.x, resnet50_mhead_linear-8xb32-steplr-90e_in1k.
    Deviation: the running variance for the test averages biased variances of batches,
        where torch averages unbiased ones. The factor is 1 - 1 / n, where n is the
        batch size times the pixels of the pooled map, at least 1,024 as published.
    """
    train_data = train_data.readable()
    check_splits("linear_features", train_data, test_data=test_data)
    _check_arguments("linear_features", optimizer_fn, learning_rate_fn, seed)
    _check_levels(levels)
    length = _run_length("linear_features", train_data, batch_size, epochs, last_batch)
    schedule = learning_rate_fn(length)
    optimizers = [optimizer_fn(learning_rate=schedule) for _ in levels]
    pooled = [f"pooled{level}" for level in levels]
    test = extract_all(backbone, test_data, pooled, transform)
    feed = training_feed(
        backbone, train_data, pooled, length, seed, train_view, transform
    )
    channels = _channels_of_maps(backbone, train_data.channels)
    heads = {}
    for level, name, optimizer in zip(levels, pooled, optimizers, strict=True):
        size = _checked_size("linear_features", feed.sizes[name], test[name])
        normalization = _channel_normalization(size, channels[f"feature{level}"])
        classifier = _linear_classifier(
            size, len(train_data.class_names), _normal(seed), normalization
        )
        heads[level] = Head(name, classifier, optimizer)
    train_heads(list(heads.values()), feed, length, "linear_features")
    results = {}
    for level, head in heads.items():
        split = test[head.feature]
        scores = _reported_scores("linear_features", head, split)
        top1 = top_accuracy(scores, split.labels, 1)
        results[f"linear_features/feature{level}_top1"] = top1
    return results | {"linear_features/best_top1": max(results.values())}


def _top1(head: Head, split: Features) -> float:
    return top_accuracy(head.scores(split.features), split.labels, 1)


def _top1_and_top5(name: str, head: Head, split: Features) -> dict[str, float]:
    scores = _reported_scores(name, head, split)
    tops = {top: top_accuracy(scores, split.labels, top) for top in (1, 5)}
    return {f"{name}/top{top}": percent for top, percent in tops.items()}


def _reported_scores(name, head, split):
    scores = head.scores(split.features)
    # A sweep may try a rate at which the weights diverge, but must not choose it.
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{name}.learning_rate_fn must keep the weights finite. Received: a "
            f"classifier of {head.feature} whose scores are not finite after training"
        )
    return scores


def _linear_classifier(size, num_classes, initializer, before=()):
    dense = layers.Dense(num_classes, kernel_initializer=initializer)
    return keras.Sequential([keras.Input((size,)), *before, dense])


def _normal(seed):
    return keras.initializers.RandomNormal(stddev=0.01, seed=seed)


def _channel_normalization(size, channels):
    """Layers that normalize flat maps, channels first, over images and pixels."""
    normalize = layers.BatchNormalization(
        axis=1,
        momentum=0.9,
        epsilon=1e-5,
        center=False,
        scale=False,
        synchronized=True,
    )
    return [layers.Reshape((channels, size // channels)), normalize, layers.Flatten()]


def _channels_of_maps(backbone, image_channels):
    """Number of channels of each output of the backbone, by name."""
    shape = getattr(backbone, "input_shape", None)
    if not isinstance(shape, tuple):
        shape = (None, None, None, image_channels)
    forward = tf.function(lambda images: backbone(images, training=False))
    traced = forward.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return {name: maps.shape[-1] for name, maps in traced.structured_outputs.items()}


def _run_length(name, data, batch_size, epochs, last_batch):
    length = RunLength(data.num_examples, batch_size, epochs, last_batch=last_batch)
    check_batch_size(name, batch_size)
    return length


def _checked_size(name, size, *splits):
    """The number of features, which must be the same in all splits."""
    for split in splits:
        if split.features.shape[1] != size:
            raise ValueError(
                f"{name}.transform must give images with the {size} features of the "
                f"training images. Received: {split.features.shape[1]}"
            )
    return size


def _check_arguments(name, optimizer_fn, learning_rate_fn, seed):
    functions = {"optimizer_fn": optimizer_fn, "learning_rate_fn": learning_rate_fn}
    for argument, function in functions.items():
        if not callable(function):
            raise ValueError(
                f"{name}.{argument} must be a function, as @LARS without parentheses. "
                f"Received: {function!r}"
            )
    check_int(f"{name}.seed", seed, least=0)


def _check_rates(rates):
    numbers = rates if isinstance(rates, (list, tuple)) and rates else [0]
    if not all(isinstance(rate, (int, float)) and rate > 0 for rate in numbers):
        raise ValueError(
            "linear_sweep.base_learning_rates must be a list of positive numbers. "
            f"Received: {rates!r}"
        )


def _check_levels(levels):
    listed = isinstance(levels, (list, tuple)) and len(levels) > 0
    if not listed or len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
        raise ValueError(
            f"linear_features.levels must be distinct ints among {LEVELS}. "
            f"Received: {levels!r}"
        )
