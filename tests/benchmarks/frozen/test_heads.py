"""Heads on one backbone are trained independently of each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.benchmarks.frozen.heads import (
    Feed,
    Head,
    shuffled_places,
    train_heads,
    training_feed,
)
from byol_keras.optimizers import LARS, MomentumSGD
from byol_keras.runtime.devices import make_strategy
from byol_keras.schedules import RunLength
from byol_keras.views.augmentations import RandomHorizontalFlip
from byol_keras.views.augmented_view import AugmentedView

NAMES = ("avgpool", "feature1", "pooled1")


def tiny_backbone():
    """Maps 3 x 3 x 4 behind dropout and BatchNormalization that has seen images."""
    images = keras.Input((6, 6, 3))
    kernel = keras.initializers.GlorotUniform(seed=0)
    x = keras.layers.Conv2D(4, 2, strides=2, kernel_initializer=kernel)(images)
    x = keras.layers.Dropout(0.5)(x)
    maps = keras.layers.BatchNormalization()(x)
    outputs = {"feature1": maps, "avgpool": keras.layers.GlobalAveragePooling2D()(maps)}
    backbone = keras.Model(images, outputs)
    statistics = [[0.5, 0.8, 1.1, 1.4], [0.7, 1.9, 1.3, 0.6]]
    normalization = backbone.layers[-2]
    normalization.moving_mean.assign(statistics[0])
    normalization.moving_variance.assign(statistics[1])
    return backbone


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def images_of_classes(num_images=24, classes=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 6, 6, 3), dtype=np.uint8)
    return data.arrays(images, np.arange(num_images) % classes)


def plain_view():
    """Never flips: the images as they are, by the path of augmented ones."""
    return AugmentedView([RandomHorizontalFlip(rate=0.0)])


def make_head(feature, size, rate=0.1, normalized=False, optimizer=MomentumSGD):
    normal = keras.initializers.RandomNormal(stddev=0.1, seed=0)
    stack = [keras.Input((size,)), keras.layers.Dense(3, kernel_initializer=normal)]
    if normalized:
        stack.insert(1, keras.layers.BatchNormalization(synchronized=True))
    return Head(feature, keras.Sequential(stack), optimizer(rate))


def weights_of(head):
    return [variable.numpy() for variable in head.classifier.variables]


def trained(backbone, features, length, train_view=None, normalized=False):
    """Weights of one head per feature after they were trained together."""
    feed = training_feed(backbone, images_of_classes(), features, length, 0, train_view)
    heads = [
        make_head(name, feed.sizes[name], 0.1 * (i + 1), normalized)
        for i, name in enumerate(features)
    ]
    train_heads(heads, feed, length, "test")
    return dict(zip(features, map(weights_of, heads), strict=True))


def assert_close(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


# The order of frozen features.


def test_a_pass_has_every_place_once_and_its_own_order():
    batches = shuffled_places(12, batch_size=4, seed=0, pass_length=12)
    places = np.concatenate([next(batches) for _ in range(6)]).reshape(2, 12)
    np.testing.assert_array_equal(np.sort(places), [np.arange(12)] * 2)
    assert not np.array_equal(places[0], places[1])


def test_a_longer_pass_repeats_its_first_places_at_its_end():
    batches = shuffled_places(10, batch_size=4, seed=0, pass_length=12)
    places = np.concatenate([next(batches) for _ in range(3)])
    np.testing.assert_array_equal(places[10:], places[:2])


def test_a_batch_can_span_two_passes():
    batches = shuffled_places(6, batch_size=4, seed=0, pass_length=6)
    places = np.concatenate([next(batches) for _ in range(3)]).reshape(2, 6)
    np.testing.assert_array_equal(np.sort(places), [np.arange(6)] * 2)


def test_order_is_a_function_of_the_seed():
    first, again, other = (
        next(shuffled_places(50, 50, seed=seed, pass_length=50)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# Training.


@pytest.mark.parametrize("view", [None, plain_view()], ids=["frozen", "images"])
def test_head_trains_alone_as_it_does_with_others(backbone, view):
    length = RunLength(24, 8, 3, last_batch="pad")
    together = trained(backbone, NAMES, length, view, normalized=True)
    feed = training_feed(backbone, images_of_classes(), NAMES[1:2], length, 0, view)
    alone = make_head(NAMES[1], feed.sizes[NAMES[1]], 0.2, normalized=True)
    start = weights_of(alone)
    train_heads([alone], feed, length, "test")
    assert_close(weights_of(alone), together[NAMES[1]], rtol=1e-6, atol=1e-7)
    assert not np.allclose(weights_of(alone)[0], start[0], atol=1e-3)


@pytest.mark.parametrize("view", [None, plain_view()], ids=["frozen", "images"])
def test_backbone_weights_do_not_change(backbone, view):
    before = [variable.numpy() for variable in backbone.variables]
    trained(backbone, NAMES, RunLength(24, 8, 2), view)
    for variable, value in zip(backbone.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_images_without_augmentation_train_as_frozen_features_do(backbone):
    # One batch per pass, since the two paths shuffle differently.
    length = RunLength(24, 24, 4)
    frozen = trained(backbone, NAMES, length, normalized=True)
    images = trained(backbone, NAMES, length, plain_view(), normalized=True)
    for name in NAMES:
        assert_close(images[name], frozen[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("view", "loaded_in_scope"),
    [(None, False), (plain_view(), False), (plain_view(), True)],
    ids=["frozen", "images", "images, backbone in scope"],
)
def test_two_devices_train_as_one_does(backbone, view, loaded_in_scope):
    length = RunLength(24, 8, 2, last_batch="pad")
    one = trained(backbone, NAMES, length, view, normalized=True)
    with make_strategy("mirrored").scope():
        loaded = tiny_backbone() if loaded_in_scope else backbone
        two = trained(loaded, NAMES, length, view, normalized=True)
    for name in NAMES:
        assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)


def test_five_steps_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4, 2)).astype(np.float32)
    labels = rng.integers(0, 3, (5, 4))
    batches = tf.data.Dataset.from_tensor_slices(({"avgpool": features}, labels))
    head = make_head("avgpool", 2)
    kernel, bias = weights_of(head)
    train_heads(
        [head], Feed(batches, lambda x: x, {"avgpool": 2}), RunLength(20, 4, 1), "test"
    )
    velocities = 0.0, 0.0
    for x, y in zip(features, labels, strict=True):
        logits = x @ kernel + bias
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        error = (p - np.eye(3)[y]) / 4
        gradients = x.T @ error, error.sum(axis=0)
        velocities = [0.9 * v + g for v, g in zip(velocities, gradients, strict=True)]
        kernel, bias = kernel - 0.1 * velocities[0], bias - 0.1 * velocities[1]
    assert_close(weights_of(head), [kernel, bias], rtol=1e-4, atol=1e-6)


def test_lars_moves_a_zero_bias_plainly_once_and_adapts_it_then():
    features = np.zeros((2, 4, 2), np.float32)
    labels = np.zeros((2, 4), np.int64)
    batches = tf.data.Dataset.from_tensor_slices(({"avgpool": features}, labels))
    biases = []
    for steps in (1, 2):

        def lars(rate):
            return LARS(rate, momentum=0.0, form="mmselfsup", exclude=())

        head = make_head("avgpool", 2, rate=1.0, optimizer=lars)
        train_heads(
            [head],
            Feed(batches, lambda x: x, {"avgpool": 2}),
            RunLength(4 * steps, 4, 1),
            "test",
        )
        biases.append(weights_of(head)[1])
    gradient = np.array([-2.0, 1.0, 1.0]) / 3
    np.testing.assert_allclose(biases[0], -gradient, rtol=1e-6)
    # From there the step is a thousandth of the bias's own norm.
    step = np.linalg.norm(biases[1] - biases[0])
    assert step == pytest.approx(1e-3 * np.linalg.norm(biases[0]), rel=1e-3)


@pytest.mark.parametrize(
    ("last_batch", "expected"),
    [("pad", [3, 6, 9]), ("carry", [2, 5, 7])],
)
def test_function_is_called_at_the_end_of_every_epoch(backbone, last_batch, expected):
    length = RunLength(10, 4, 3, last_batch=last_batch)
    feed = training_feed(backbone, images_of_classes(10), ["avgpool"], length, 0)
    head, steps = make_head("avgpool", 4), []
    train_heads(
        [head],
        feed,
        length,
        "test",
        lambda: steps.append(int(head.optimizer.iterations)),
    )
    assert steps == expected


def test_progress_shows_the_epoch_and_the_loss(backbone, capsys):
    length = RunLength(24, 8, 2)
    feed = training_feed(backbone, images_of_classes(), ["avgpool"], length, 0)
    train_heads([make_head("avgpool", 4)], feed, length, "probe")
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line.startswith("probe, epoch 2/2 ")
    assert "loss 1." in line


def test_scores_are_logits_in_inference_mode_in_any_number():
    head = make_head("avgpool", 2, normalized=True)
    features = np.random.default_rng(0).normal(5, 3, (2500, 2)).astype(np.float32)
    scores = head.scores(features)
    expected = head.classifier(features, training=False)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
