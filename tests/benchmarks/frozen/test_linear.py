"""The three linear protocols, from end to end."""

import dataclasses
import functools
import importlib

import keras
import numpy as np
import pytest

from byol_keras import data
from byol_keras.benchmarks.frozen import heads
from byol_keras.benchmarks.frozen.linear import linear, linear_features, linear_sweep
from byol_keras.optimizers import MomentumSGD
from byol_keras.runtime.devices import make_strategy
from byol_keras.schedules import constant_learning_rate, warmup_cosine
from byol_keras.views.augmentations import RandomHorizontalFlip
from byol_keras.views.augmented_view import AugmentedView

from support.datasets import make_multi_label

# The package has a function of the same name.
module = importlib.import_module("byol_keras.benchmarks.frozen.linear")

SIDE = 8


def coloured(labels, seed=0):
    """8 x 8 images of class 0, 1, 2: red, green or blue, each of its own brightness."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    images = np.zeros((len(labels), SIDE, SIDE, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] = rng.integers(100, 256)
    return data.arrays(images, labels)


TRAIN, TEST = coloured(np.arange(30) % 3), coloured(np.arange(12) % 3, seed=1)


@pytest.fixture(scope="module")
def backbone():
    """Five maps, of 3 to 7 channels, the first three of which are the colours."""
    images = keras.Input((None, None, 3))
    outputs = {"avgpool": keras.layers.GlobalAveragePooling2D()(images)}
    maps = images
    for level in range(1, 6):
        outputs[f"feature{level}"] = maps
        dark = keras.layers.Lambda(lambda x: 0.0 * x[..., :1])(maps)
        maps = keras.layers.Concatenate()([maps, dark])
    return keras.Model(images, outputs)


def constant(rate):
    return functools.partial(constant_learning_rate, learning_rate=rate)


def rate_of_sweep(run_length, base_learning_rate):
    return base_learning_rate


def flips():
    return AugmentedView([RandomHorizontalFlip()])


def run_linear(backbone, train=TRAIN, test=TEST, rate=1.0, epochs=10, **settings):
    settings = {"batch_size": 10, **settings}
    return linear(
        backbone, train, test, MomentumSGD, constant(rate), epochs=epochs, **settings
    )


def run_sweep(backbone, train=TRAIN, validation=TEST, test=TEST, **settings):
    settings = {"base_learning_rates": (1e-9, 1.0), "epochs": 10, **settings}
    settings = {"learning_rate_fn": rate_of_sweep, "batch_size": 10, **settings}
    return linear_sweep(backbone, train, validation, test, MomentumSGD, **settings)


def run_features(backbone, train=TRAIN, test=TEST, **settings):
    settings = {"epochs": 10, "batch_size": 10, **settings}
    return linear_features(
        backbone, train, test, MomentumSGD, constant(0.1), **settings
    )


@pytest.mark.parametrize("view", [None, flips()], ids=["frozen", "images"])
def test_separable_classes_are_all_found(backbone, view):
    found = run_linear(backbone, train_view=view)
    assert found == {"linear/top1": 100.0, "linear/top5": 100.0}


def test_wrong_test_labels_are_counted_as_errors(backbone):
    test = data.arrays(
        np.stack([example["image"] for example in TEST.ordered()]),
        np.array([0, 1, 2] * 3 + [1, 2, 0]),
    )
    assert run_linear(backbone, test=test)["linear/top1"] == 75.0


def test_best_epoch_is_the_best_of_all_epochs(backbone, monkeypatch):
    accuracies = iter([20.0, 60.0, 40.0, 40.0, 90.0])
    monkeypatch.setattr(module, "top_accuracy", lambda *args: next(accuracies))
    found = run_linear(backbone, epochs=3, best_epoch=True)
    assert found == {
        "linear/top1": 40.0,
        "linear/top5": 90.0,
        "linear/top1_best_epoch": 60.0,
    }


def test_result_is_a_function_of_the_seed(backbone, monkeypatch):
    scores = []
    original = heads.Head.scores

    def scored(head, features):
        scores.append(original(head, features))
        return scores[-1]

    monkeypatch.setattr(heads.Head, "scores", scored)
    for seed in (3, 3, 4):
        run_linear(backbone, epochs=1, seed=seed, train_view=flips())
    first, again, other = scores
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_classifier_starts_small_and_without_bias():
    classifier = module._linear_classifier(400, 50, module._normal(0))
    kernel, bias = classifier.get_weights()
    assert np.std(kernel) == pytest.approx(0.01, rel=0.02)
    assert abs(np.mean(kernel)) < 2e-4
    np.testing.assert_array_equal(bias, np.zeros(50))


# The sweep.


def test_sweep_chooses_on_validation_images_and_tests_once(backbone, monkeypatch):
    lengths = []
    original = heads.Head.scores

    def scored(head, features):
        lengths.append(len(features))
        return original(head, features)

    validation = coloured(np.arange(9) % 3, seed=2)
    test = coloured(np.arange(15) % 3, seed=1)
    monkeypatch.setattr(heads.Head, "scores", scored)
    found = run_sweep(backbone, validation=validation, test=test)
    assert found == {
        "linear_sweep/top1": 100.0,
        "linear_sweep/top5": 100.0,
        "linear_sweep/validation_top1": 100.0,
        "linear_sweep/base_learning_rate": 1.0,
    }
    assert lengths == [9, 9, 15]


def test_sweep_reports_the_chosen_head_even_if_another_tests_better(
    backbone, monkeypatch
):
    rates = (1e-9, 1.0)
    # Validation of either head, then the test's top-1 and top-5.
    accuracies = iter([50.0, 40.0, 10.0, 20.0])
    monkeypatch.setattr(module, "top_accuracy", lambda *args: next(accuracies))
    found = run_sweep(backbone, base_learning_rates=rates, epochs=1)
    assert found["linear_sweep/base_learning_rate"] == 1e-9
    assert found["linear_sweep/validation_top1"] == 50.0
    assert found["linear_sweep/top1"] == 10.0


def test_sweep_takes_the_schedule_of_the_protocol(backbone):
    schedule = functools.partial(warmup_cosine, warmup_epochs=0)
    found = run_sweep(
        backbone,
        learning_rate_fn=schedule,
        base_learning_rates=(0.05, 20.0),
        epochs=20,
        train_view=flips(),
    )
    assert found["linear_sweep/top1"] == 100.0


# The stages.


def no_rate(run_length, base_learning_rate):
    return float("nan") if base_learning_rate > 1 else base_learning_rate


def test_classifier_that_diverged_is_one_line(backbone):
    line = r"linear\.learning_rate_fn must keep the weights finite\. Received: a class"
    with pytest.raises(ValueError, match=line):
        run_linear(backbone, rate=float("nan"), epochs=1)


def test_rate_that_diverges_is_never_chosen(backbone):
    rates = {"base_learning_rates": (2.0, 1.0), "learning_rate_fn": no_rate}
    found = run_sweep(backbone, **rates)
    assert found["linear_sweep/base_learning_rate"] == 1.0
    with pytest.raises(ValueError, match=r"linear_sweep\.learning_rate_fn must keep"):
        run_sweep(backbone, base_learning_rates=(2.0,), learning_rate_fn=no_rate)


@pytest.mark.parametrize("view", [None, flips()], ids=["frozen", "images"])
def test_every_stage_is_classified(backbone, view):
    found = run_features(backbone, train_view=view)
    assert found == {
        **{f"linear_features/feature{level}_top1": 100.0 for level in range(1, 6)},
        "linear_features/best_top1": 100.0,
    }


def test_best_stage_is_the_best_of_the_given_levels(backbone, monkeypatch):
    accuracies = iter([20.0, 30.0])
    monkeypatch.setattr(module, "top_accuracy", lambda *args: next(accuracies))
    assert run_features(backbone, levels=(4, 2), epochs=1) == {
        "linear_features/feature4_top1": 20.0,
        "linear_features/feature2_top1": 30.0,
        "linear_features/best_top1": 30.0,
    }


def test_normalization_is_per_channel_over_images_and_pixels_and_without_affine():
    reshape, normalize, flatten = module._channel_normalization(size=6, channels=2)
    # Two images of 2 channels x 3 pixels: channel means 3 and 20.
    maps = np.array([[1, 2, 3, 10, 10, 10], [4, 4, 4, 30, 30, 30]], np.float32)
    model = keras.Sequential([keras.Input((6,)), reshape, normalize, flatten])
    assert model.trainable_variables == []
    found = model(maps, training=True)
    expected = (maps - [3, 3, 3, 20, 20, 20]) / np.sqrt(
        np.array([4 / 3] * 3 + [100.0] * 3) + 1e-5
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(normalize.moving_mean, [0.3, 2.0], rtol=1e-6)
    running = [0.9 + 0.1 * 4 / 3, 0.9 + 0.1 * 100]
    np.testing.assert_allclose(normalize.moving_variance, running, rtol=1e-5)
    tested = (maps - np.repeat([0.3, 2.0], 3)) / np.sqrt(np.repeat(running, 3) + 1e-5)
    np.testing.assert_allclose(model(maps, training=False), tested, rtol=1e-4)


def test_channels_are_those_of_the_backbone_built_or_not(backbone):
    class Subclassed(keras.Model):
        def call(self, images):
            return backbone(images)

    expected = {"avgpool": 3} | {f"feature{level}": level + 2 for level in range(1, 6)}
    assert module._channels_of_maps(backbone, 3) == expected
    assert module._channels_of_maps(Subclassed(), 3) == expected


# What a user may get wrong, told before any work.

RUNS = {
    "linear": run_linear,
    "linear_sweep": run_sweep,
    "linear_features": run_features,
}


def refused(name, match, backbone=None, **settings):
    # Nothing may be computed: a backbone that is not called need not be one.
    with pytest.raises(ValueError, match=match) as error:
        RUNS[name](backbone, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", RUNS)
def test_splits_must_have_the_same_classes(name):
    names = ("0", "2", "1")
    test = dataclasses.replace(coloured([0, 1, 2]), class_names=names)
    refused(name, "the 3 classes of train_data, in the same order", test=test)


@pytest.mark.parametrize("name", RUNS)
def test_splits_must_have_the_same_channels(name):
    grey = data.arrays(np.zeros((3, 8, 8), np.uint8), np.arange(3))
    refused(name, "the 3 channels of train_data. Received: 1 in", test=grey)


def test_backbone_must_take_the_channels_of_the_data(backbone):
    grey = data.arrays(np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3)
    with pytest.raises(ValueError, match=r"the backbone's 3 channels\. Received: .*1"):
        run_linear(backbone, grey, grey, train_view=flips())


def test_validation_images_are_checked_too():
    unlabelled = data.arrays(np.zeros((4, 8, 8, 3), np.uint8))
    refused("linear_sweep", "validation_data must have", validation=unlabelled)


@pytest.mark.parametrize("name", RUNS)
def test_unlabelled_images_are_refused(name):
    unlabelled = data.arrays(np.zeros((4, 8, 8, 3), np.uint8))
    refused(name, r"train_data must have labels\. Received: arrays", train=unlabelled)


@pytest.mark.parametrize("name", RUNS)
def test_images_of_several_classes_are_refused(name):
    several, _, _ = make_multi_label(classes=3)
    refused(name, "one label per image", train=several, test=several)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_seed_must_be_an_int_from_0(name, seed):
    refused(name, rf"{name}\.seed must be an int of at least 0", seed=seed)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch_size": 2.5}])
def test_epochs_and_batch_size_must_be_positive_ints(name, settings):
    refused(name, "must be a positive int. Received: ", **settings)


def test_batch_must_not_exceed_the_images():
    refused("linear", r"larger than num_examples \(30\)", batch_size=31)


def test_batch_must_be_divisible_by_the_devices():
    with make_strategy("mirrored").scope():
        refused("linear", "divisible by the 2 replicas. Received: 9", batch_size=9)


@pytest.mark.parametrize("rates", [(), (0.1, 0.0), ("0.1",), 0.1])
def test_rates_of_the_sweep_must_be_positive_numbers(rates):
    refused("linear_sweep", "list of positive numbers", base_learning_rates=rates)


@pytest.mark.parametrize("levels", [(), (0,), (1, 6), (2, 2), 3])
def test_levels_must_be_distinct_ints_in_1_to_5(levels):
    refused("linear_features", r"distinct ints among \(1, 2, 3, 4, 5\)", levels=levels)


def test_optimizer_must_be_a_function():
    optimizer = MomentumSGD(0.1)
    with pytest.raises(ValueError, match="without parentheses") as error:
        linear(None, TRAIN, TEST, optimizer, constant(0.1), epochs=1, batch_size=10)
    assert "\n" not in str(error.value)


def test_test_images_must_have_the_size_of_training_images():
    flat = keras.Sequential([keras.layers.Flatten()])
    wide = data.arrays(np.zeros((6, 8, 9, 3), np.uint8), np.arange(6) % 3)
    with pytest.raises(ValueError, match=r"192 features of .*\. Received: 216"):
        run_linear(flat, test=wide, train_view=flips())
