"""Fine-tuning: trials from equal starts, and a point chosen on validation data."""

import dataclasses
import functools
import importlib

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras import data
from byol_keras.benchmarks import schedules  # noqa: F401, registers names for gin
from byol_keras.benchmarks.baselines import RawPixels
from byol_keras.benchmarks.finetune import (
    Accuracy,
    GridPoint,
    Recipe,
    accuracy,
    fine_tuned,
    finetune,
)
from byol_keras.config import parse
from byol_keras.data.unreadable import counted_left_out
from byol_keras.export import export_backbone, load_backbone
from byol_keras.optimizers import MomentumSGD
from byol_keras.schedules import RunLength, warmup_cosine
from byol_keras.views.augmentations import RandomHorizontalFlip
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.transforms import resize_center_crop

from support import ROOT
from support.datasets import write

VIEW = AugmentedView([RandomHorizontalFlip(rate=0.0)])
plain_sgd = functools.partial(MomentumSGD, momentum=0.0)


def constant_rate(run_length, base_learning_rate):
    return base_learning_rate


def recipe(batch_size, optimizer_fn=plain_sgd):
    return Recipe(VIEW, batch_size, optimizer_fn, constant_rate, seed=0)


def conv_backbone(channels=3):
    """Conv, BatchNormalization synchronised over replicas, ReLU, mean."""
    images = keras.Input((None, None, channels))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True)(x)
    x = layers.GlobalAveragePooling2D(dtype="float32")(layers.ReLU()(x))
    return keras.Model(images, {"avgpool": x})


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(1)
    return conv_backbone()


def coloured(labels, seed=0, classes_of_labels=(0, 1)):
    """4 x 4 images: class 0 is red, class 1 is green, each of its own brightness."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] = rng.integers(100, 256, (4, 4))
    return data.arrays(images, np.array(classes_of_labels)[labels])


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


def assert_same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance})


def test_trial_that_diverged_counts_as_0_with_a_warning(caplog):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Rescaling(np.nan)])
    found = accuracy(model, coloured([0, 1, 1]), None)
    assert found == Accuracy(0.0, 0.0)
    # TensorFlow warns of retracing in a process that has run many tests.
    messages = [record.getMessage() for record in caplog.records]
    (message,) = [text for text in messages if "diverged" in text]
    assert "a trial diverged, and counts as 0 percent" in message


# One whole run, and the weights of the backbone before and after it.


@pytest.fixture(scope="module")
def whole_run(backbone):
    before = weights_of(backbone)
    found = finetune(
        backbone,
        coloured([0, 1] * 20),
        coloured([0, 1] * 10, seed=1),
        VIEW,
        MomentumSGD,
        functools.partial(warmup_cosine, warmup_epochs=0),
        epochs=(8,),
        base_learning_rates=(1.6,),
        head_multipliers=(10,),
        batch_size=16,
    )
    return before, found, weights_of(backbone)


def test_separable_classes_are_all_found(whole_run):
    assert whole_run[1] == {
        "finetune/top1": 100.0,
        "finetune/top5": 100.0,
        "finetune/top1_grid_chosen_on_test": 100.0,
        "finetune/validation_top1": 100.0,
        "finetune/epochs": 8.0,
        "finetune/base_learning_rate": 1.6,
        "finetune/head_multiplier": 10.0,
    }


def test_backbone_of_the_caller_is_not_changed(whole_run):
    assert_same(whole_run[0], whole_run[2])


@pytest.mark.slow
@pytest.mark.parametrize("hold_out", [True, False])
def test_unreadable_images_are_neither_trained_on_nor_evaluated(
    hold_out, backbone, tmp_path
):
    def scores(name, bad):
        images = coloured([0, 1] * 10).ordered()
        for number, example in enumerate(images):
            path = tmp_path / name / "ab"[number % 2] / f"{number:02}.png"
            if number not in (0, 3, 8):
                write(path, tf.io.encode_png(example["image"]))
            elif bad:
                write(path, b"broken")
        source = data.image_folder(tmp_path / name, channels=3, max_bad_share=0.5)
        return finetune(
            backbone,
            source,
            source,
            AugmentedView([RandomHorizontalFlip(rate=0.0)], transform=small),
            plain_sgd,
            constant_rate,
            epochs=(1,),
            base_learning_rates=(0.1,),
            head_multipliers=(1,),
            batch_size=4,
            transform=small,
            validation_data=None if hold_out else source,
            tuning_data=None if hold_out else source,
        )

    small = functools.partial(resize_center_crop, size=4, resize=4)
    with counted_left_out() as counts:
        assert scores("broken", bad=True) == scores("clean", bad=False)
    assert counts == {f"images in {tmp_path / 'broken'}": 3}


# Single trials.


@pytest.fixture(scope="module")
def one_step_trials(backbone):
    """One step each: head x 1, head x 10, and head x 10 once more."""
    train = coloured([0, 1] * 4)
    points = [GridPoint(1, 0.5, multiplier) for multiplier in (1, 10, 10)]
    return [fine_tuned(backbone, train, point, recipe(8)) for point in points]


def test_head_multiplier_changes_only_the_head(backbone, one_step_trials):
    once, ten_times, _ = one_step_trials
    for a, b in zip(
        once.backbone.trainable_weights,
        ten_times.backbone.trainable_weights,
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    start = backbone.trainable_weights[0].numpy()
    assert np.max(np.abs(once.backbone.trainable_weights[0] - start)) > 1e-6
    # The bias started at 0, so it is its own step.
    assert np.max(np.abs(once.head.bias)) > 1e-6
    np.testing.assert_allclose(ten_times.head.bias, 10 * once.head.bias, rtol=1e-5)


def test_trials_start_from_the_same_weights(one_step_trials):
    _, first, again = one_step_trials
    assert_same(first.get_weights(), again.get_weights())


def test_batch_normalization_is_trained_in_training_mode(backbone, one_step_trials):
    statistics = one_step_trials[0].backbone.non_trainable_weights
    for new, old in zip(statistics, backbone.non_trainable_weights, strict=True):
        assert np.max(np.abs(new - old)) > 1e-3


def test_three_steps_equal_a_numpy_run_with_coupled_weight_decay():
    images = keras.Input((4, 4, 3))
    pooled = layers.GlobalAveragePooling2D()(images)
    linear = keras.Model(images, layers.Dense(2, use_bias=False)(pooled))
    train = coloured([0, 0, 0, 1, 1, 0], classes_of_labels=(1, 0))
    sgd = functools.partial(MomentumSGD, momentum=0.9, weight_decay=0.1)
    rate, multiplier = 0.5, 3.0
    model = fine_tuned(linear, train, GridPoint(3, rate, multiplier), recipe(6, sgd))

    start = keras.initializers.RandomNormal(stddev=0.01, seed=0)((2, 2))
    weights = [linear.get_weights()[0], np.array(start), np.zeros(2)]
    velocities = [np.zeros_like(weight) for weight in weights]
    pixels = np.stack([x["image"] for x in train.ordered()]) / 255.0
    for _ in range(3):
        gradients = softmax_gradients(pixels.mean(axis=(1, 2)), train.labels(), weights)
        for i, factor in enumerate((1.0, multiplier, multiplier)):
            velocities[i] = 0.9 * velocities[i] + gradients[i] + 0.1 * weights[i]
            weights[i] = weights[i] - rate * factor * velocities[i]
    assert_same(model.get_weights(), weights, atol=1e-5)


def softmax_gradients(x, labels, weights):
    """Of the mean cross-entropy of x W V + b, in the order W, V, b."""
    first, second, bias = weights
    hidden = x @ first
    logits = hidden @ second + bias
    wrong = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong[np.arange(len(x)), labels] -= 1.0
    wrong /= len(x)
    return x.T @ wrong @ second.T, hidden.T @ wrong, wrong.sum(axis=0)


def two_replicas():
    # TensorFlow's default reduction on CPUs fails in a process that has used another
    # strategy before.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def test_two_replicas_train_like_one():
    train, point = coloured([0, 1, 1, 1] * 4), GridPoint(3, 0.2, 10)
    sgd = functools.partial(MomentumSGD, nesterov=True, weight_decay=0.01)
    found = []
    for strategy in (tf.distribute.get_strategy(), two_replicas()):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            found.append(fine_tuned(conv_backbone(), train, point, recipe(8, sgd)))
    assert_same(found[0].get_weights(), found[1].get_weights(), atol=1e-5)


# Which data a point is trained on, and which it is chosen on.


def faked_run(monkeypatch, train, accuracies, **given):
    """A run whose trials are not trained: its results, and what it asked for.

    Args:
        accuracies: base learning rate -> top-1 on validation data, top-1 on test data.
    """
    trained, scored = [], []
    test = coloured([0, 1])

    def fake_trial(backbone, source, point, recipe):
        trained.append((source, point.base_learning_rate))
        return trained[-1]

    def fake_accuracy(model, source, transform):
        scored.append((*model, source))
        return Accuracy(accuracies[model[1]][source is test], 100.0)

    # The package's attribute of this name is the function.
    module = importlib.import_module("byol_keras.benchmarks.finetune")
    monkeypatch.setattr(module, "fine_tuned", fake_trial)
    monkeypatch.setattr(module, "accuracy", fake_accuracy)
    results = finetune(
        conv_backbone(),
        train,
        test,
        VIEW,
        plain_sgd,
        constant_rate,
        epochs=(1,),
        base_learning_rates=tuple(accuracies),
        head_multipliers=(1,),
        batch_size=2,
        **given,
    )
    return results, trained, scored, test


def test_chosen_point_is_the_best_on_validation_data(monkeypatch):
    accuracies = {0.1: (50.0, 90.0), 0.2: (70.0, 60.0), 0.3: (70.0, 80.0)}
    found, *_ = faked_run(monkeypatch, coloured([0, 1] * 5), accuracies)
    assert found["finetune/base_learning_rate"] == 0.2  # the first of equals
    assert found["finetune/validation_top1"] == 70.0
    assert found["finetune/top1"] == 60.0
    assert found["finetune/top1_grid_chosen_on_test"] == 90.0


def test_without_validation_data_a_fifth_of_each_class_is_held_out(monkeypatch):
    train = coloured([0] * 10 + [1] * 5)
    rates = {0.1: (50.0, 50.0), 0.2: (60.0, 60.0)}
    _, trained, scored, test = faked_run(monkeypatch, train, rates)
    tuning, held_out = trained[0][0], scored[0][2]
    assert np.bincount(tuning.labels()).tolist() == [8, 4]
    assert np.bincount(held_out.labels()).tolist() == [2, 1]
    pixels = [
        x["image"].numpy().tobytes() for x in (*tuning.ordered(), *held_out.ordered())
    ]
    assert set(pixels) == {x["image"].numpy().tobytes() for x in train.ordered()}
    for rate in rates:
        assert (tuning, rate, held_out) in scored
        assert (train, rate, test) in scored
    assert len(trained) == len(scored) == 4


def test_with_validation_data_every_point_is_trained_once(monkeypatch):
    train, validation = coloured([0, 1] * 4), coloured([0, 1])
    _, trained, scored, test = faked_run(
        monkeypatch, train, {0.1: (50.0, 50.0)}, validation_data=validation
    )
    assert trained == [(train, 0.1)]
    assert scored == [(train, 0.1, validation), (train, 0.1, test)]


def test_point_is_chosen_after_training_on_tuning_data(monkeypatch):
    train, tuning, validation = (coloured([0, 1] * n) for n in (4, 3, 1))
    _, trained, scored, test = faked_run(
        monkeypatch,
        train,
        {0.1: (50.0, 50.0)},
        tuning_data=tuning,
        validation_data=validation,
    )
    assert trained == [(tuning, 0.1), (train, 0.1)]
    assert scored == [(tuning, 0.1, validation), (train, 0.1, test)]


# Mistakes, all found before the first trial.


def refused(match, monkeypatch, backbone=None, scope=None, **given):
    module = importlib.import_module("byol_keras.benchmarks.finetune")
    monkeypatch.setattr(module, "fine_tuned", lambda *_: pytest.fail("a trial ran"))
    arguments = {
        "train_data": coloured([0, 1] * 10),
        "test_data": coloured([0, 1]),
        "train_view": VIEW,
        "optimizer_fn": plain_sgd,
        "learning_rate_fn": constant_rate,
        "epochs": (1,),
        "base_learning_rates": (0.1,),
        "batch_size": 5,
        **given,
    }
    scope = scope or tf.distribute.get_strategy().scope()
    with scope, pytest.raises(ValueError, match=match) as error:
        finetune(backbone or conv_backbone(), **arguments)
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", (1.5,)),
        ("epochs", 20),
        ("epochs", ()),
        ("base_learning_rates", (0.1, 0)),
        ("base_learning_rates", ("0.1",)),
        ("head_multipliers", (-1,)),
    ],
)
def test_wrong_grid_is_one_line(name, value, monkeypatch):
    refused(rf"^finetune\.{name} must be a list of", monkeypatch, **{name: value})


def test_backbone_without_weights_is_one_line(monkeypatch, backbone):
    pixels = RawPixels()
    pixels(np.zeros((1, 4, 4, 3), np.float32))
    refused(r"^backbone must", monkeypatch, backbone=pixels)
    images = keras.Input((None, None, 3))
    mean = keras.Model(images, layers.GlobalAveragePooling2D()(images))
    refused(r"^backbone must have weights", monkeypatch, backbone=mean)


def test_backbone_from_a_saved_model_is_one_line(monkeypatch, backbone, tmp_path):
    export_backbone(backbone, tmp_path)
    loaded = load_backbone(tmp_path / "saved_model")
    refused(r"^backbone must .*\.keras file", monkeypatch, backbone=loaded)


def test_batch_larger_than_the_tuning_data_is_one_line(monkeypatch):
    refused(r"batch_size.*\(16\)\. Received: 17$", monkeypatch, batch_size=17)


def test_batch_that_replicas_cannot_share_is_one_line(monkeypatch):
    refused(
        r"^finetune\.batch_size must be divisible by the 2 replicas",
        monkeypatch,
        scope=two_replicas().scope(),
    )


def test_tuning_data_without_validation_data_is_one_line(monkeypatch):
    tuning = coloured([0, 1])
    match = r"^finetune\.validation_data must be given with tuning_data"
    refused(match, monkeypatch, tuning_data=tuning)


def test_results_in_place_of_functions_are_one_line(monkeypatch):
    match = r"^finetune\.optimizer_fn must be a function, without parentheses"
    refused(match, monkeypatch, optimizer_fn=MomentumSGD(0.1))


def one_hot(source):
    """The same data, labelled as if an image could be of several classes."""

    def fetch(place):
        example = source.source.fetch(place)
        return example | {"label": tf.one_hot(example["label"], 2, dtype=tf.int64)}

    return dataclasses.replace(
        source, source=dataclasses.replace(source.source, fetch=fetch)
    )


@pytest.mark.parametrize(
    ("test_data", "rule"),
    [
        (data.arrays(np.zeros((2, 4, 4, 3), np.uint8)), "have labels"),
        (one_hot(coloured([0, 1])), "have one label per image"),
        (
            coloured([0, 1], classes_of_labels=(0, 2)),
            "have the 2 classes of train_data",
        ),
        (
            data.arrays(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2)),
            "have the 3 channels of train_data",
        ),
        (
            dataclasses.replace(coloured([0, 1]), image_size=None),
            "be of one size without a transform",
        ),
    ],
)
def test_test_data_that_do_not_match_are_one_line(test_data, rule, monkeypatch):
    match = rf"^finetune\.test_data must {rule}.*Received: .*arrays"
    refused(match, monkeypatch, test_data=test_data)


# The protocols.


def rates(protocol, base_learning_rate, batch_size, num_examples, steps):
    # The command line registers what the protocols name.
    importlib.import_module("byol_keras.benchmarks.__main__")
    parse.parse_gin([str(ROOT / "gin/protocol" / f"{protocol}.gin")], [])
    settings = gin.get_bindings("finetune")
    epochs = settings["epochs"][0]
    length = RunLength(num_examples, batch_size, epochs, last_batch="pad")
    schedule = settings["learning_rate_fn"](length, base_learning_rate)
    return [float(schedule(step)) for step in steps], length


def test_rate_of_mmselfsup_falls_to_a_fifth_at_epochs_12_and_16():
    steps = (0, 51 * 12 - 1, 51 * 12, 51 * 16 - 1, 51 * 16, 51 * 20 - 1)
    found, length = rates("finetune", 0.1, 256, 12_811, steps)
    assert length.total_steps == 51 * 20
    assert found == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004])


def test_rate_of_the_paper_is_a_cosine_from_its_peak():
    found, length = rates("finetune_deepmind", 0.1, 1024, 12_811, (0, 195, 390))
    assert length.total_steps == 390
    assert found == pytest.approx([0.4, 0.2, 0.0])
