import random
from types import SimpleNamespace

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras import data
from byol_keras.benchmarks.frozen.features import extract_features
from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA
from byol_keras.data.image_data import ImageData
from byol_keras.data.sources import Rows
from byol_keras.export import load_backbone
from byol_keras.runtime import cli
from byol_keras.training.evaluation import (
    BenchmarkEachEpochs,
    EvaluationError,
    OnlineProbe,
)
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.crops import RandomResizedCrop

from support.runs import metrics, run


def labelled_images(num_images=256, separable=True, size=2):
    """Gray images of two classes, which their pixels separate or not at all."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, num_images)
    images = rng.integers(0, 100, (num_images, size, size, 1))
    if separable:
        images += 150 * labels[:, None, None, None]
    return data.arrays(images.astype(np.uint8), labels)


def small_byol(strategy=None, eager=True):
    keras.utils.set_random_seed(0)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        images = keras.Input((2, 2, 1))
        h = layers.Dense(4)(layers.Flatten()(images))
        h = layers.BatchNormalization(momentum=0.5, synchronized=True)(h)
        model = BYOL(keras.Model(images, {"avgpool": h}), 8, 3)
        model.compile(keras.optimizers.SGD(0.5), jit_compile=False, run_eagerly=eager)
    return model


def fit(model, *callbacks, epochs=2):
    views = np.random.default_rng(0).random((2, 16, 2, 2, 1), dtype=np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(views)).batch(8)
    return model.fit(
        dataset,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[TargetEMA(0.9, total_steps=2 * epochs), *callbacks],
    ).history


def two_replicas():
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def state(model):
    """Weights, statistics, optimizer, and the next draws of the global generators."""
    variables = [
        *model.online.variables,
        *model.target.variables,
        *model.predictor.variables,
        *model.optimizer.variables,
    ]
    arrays = [keras.ops.convert_to_numpy(v) for v in variables]
    return [*arrays, random.random(), np.random.random()]


@gin.register
def restless(backbone):
    """A benchmark that draws random numbers and reads the backbone's output."""
    features, labels = extract_features(backbone, labelled_images())
    keras.Sequential([keras.Input((4,)), layers.Dense(2)])  # seeds from the globals
    np.random.random()
    return {"restless/mean": float(features.mean()), "restless/labels": labels.mean()}


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_run_is_bit_for_bit_the_same_with_and_without_evaluation(replicas):
    strategy = two_replicas if replicas == 2 else lambda: None
    plain = small_byol(strategy(), eager=replicas == 1)
    fit(plain)
    expected = state(plain)
    model = small_byol(strategy(), eager=replicas == 1)
    probe = OnlineProbe(labelled_images(), None, batch_size=8)
    history = fit(model, BenchmarkEachEpochs([restless]), probe)
    for actual, value in zip(state(model), expected, strict=True):
        np.testing.assert_array_equal(actual, value)
    first, last = history["restless/mean"]
    features, labels = extract_features(model.online.backbone, labelled_images())
    assert last == pytest.approx(features.mean(), abs=1e-6)
    assert first != pytest.approx(last, abs=1e-4)
    assert history["restless/labels"] == [labels.mean()] * 2
    assert len(history["probe/top1"]) == 2


# --- Benchmarks between epochs --------------------------------------------------------


def evaluated_epochs(epochs, every_epochs, stopped_in=None):
    """1-based epochs whose logs get a result."""
    model = SimpleNamespace(stop_training=False)
    model.online = SimpleNamespace(backbone="backbone")
    callback = BenchmarkEachEpochs([lambda backbone: {"it/is": backbone}], every_epochs)
    callback.set_params({"epochs": epochs})
    callback.set_model(model)
    found = []
    for epoch in range(epochs):
        model.stop_training = epoch + 1 == stopped_in
        logs = {"loss": 1.0}
        callback.on_epoch_end(epoch, logs)
        if len(logs) == 2:
            assert logs == {"loss": 1.0, "it/is": "backbone"}
            found.append(epoch + 1)
    return found


def test_benchmarks_run_after_every_nth_epoch_and_after_the_last():
    assert evaluated_epochs(5, every_epochs=1) == [1, 2, 3, 4, 5]
    assert evaluated_epochs(5, every_epochs=2) == [2, 4, 5]
    assert evaluated_epochs(4, every_epochs=2) == [2, 4]
    assert evaluated_epochs(3, every_epochs=9) == [3]


def test_an_epoch_in_which_another_callback_stops_the_run_is_the_last():
    assert evaluated_epochs(5, every_epochs=4, stopped_in=3) == [3, 4, 5]


@pytest.mark.parametrize(
    "arguments",
    [
        {"benchmarks": []},
        {"benchmarks": restless},
        {"benchmarks": ["knn"]},
        {"benchmarks": [restless], "every_epochs": 0},
        {"benchmarks": [restless], "every_epochs": 1.5},
        {"benchmarks": [restless], "every_epochs": True},
    ],
    ids=["none", "no_list", "no_function", "0_epochs", "part_of_an_epoch", "bool"],
)
def test_bad_argument_of_benchmark_each_epochs_is_refused(arguments):
    wrong = list(arguments)[-1]
    with pytest.raises(ValueError, match=f"^{wrong} must be .* Received: [^\n]*$"):
        BenchmarkEachEpochs(**arguments)


def test_error_of_a_benchmark_is_one_line_that_names_it():
    def lacking(backbone):
        raise FileNotFoundError(2, "No such file or directory", "labels.txt")

    found = r"^lacking after epoch 1: \[Errno 2\] No such .*: 'labels.txt'$"
    with pytest.raises(EvaluationError, match=found):
        fit(small_byol(), BenchmarkEachEpochs([lacking]))


def test_two_benchmarks_with_the_same_key_are_refused():
    with pytest.raises(ValueError, match=r"Received: restless/labels, restless/mean "):
        fit(small_byol(), BenchmarkEachEpochs([restless, restless]))


# --- The probe ------------------------------------------------------------------------


def probe_steps(probe, steps, model=None, new_epoch_at=(0,)):
    """Calls the callback as `fit` does; returns the logs of steps and of the epoch."""
    probe.set_model(model or small_byol())
    probe.on_train_begin()
    found = []
    for step in range(steps):
        if step in new_epoch_at:
            probe.on_epoch_begin(0)
        found.append({})
        probe.on_train_batch_end(step, found[-1])
    end = {}
    probe.on_epoch_end(0, end)
    return found, end


def values(logs, name):
    return [float(line[name]) for line in logs]


def test_probe_reaches_100_percent_on_separable_classes():
    probe = OnlineProbe(labelled_images(), None, batch_size=32, learning_rate=0.1)
    logs, end = probe_steps(probe, 50, new_epoch_at=(0, 40))
    assert float(logs[0]["probe/top1"]) < 70.0
    assert end["probe/top1"] == 100.0
    assert end["probe/loss"] < 0.1


def test_probe_stays_at_chance_on_labels_independent_of_the_images():
    images = labelled_images(4096, separable=False)
    probe = OnlineProbe(images, None, batch_size=128, learning_rate=0.1)
    _, end = probe_steps(probe, 40, new_epoch_at=(0, 8))
    assert end["probe/top1"] == pytest.approx(50.0, abs=4.0)
    assert end["probe/loss"] >= np.log(2.0) - 0.01


def test_first_batch_is_scored_before_the_probe_learns():
    images = labelled_images()
    _, labels = next(iter(OnlineProbe(images, None, batch_size=32).dataset))
    logs, _ = probe_steps(OnlineProbe(images, None, batch_size=32), 1)
    assert float(logs[0]["probe/loss"]) == pytest.approx(np.log(2.0), abs=1e-6)
    # All classes tie at 0, so the guess is the first.
    share = 100.0 * np.mean(labels.numpy() == 0)
    assert float(logs[0]["probe/top1"]) == pytest.approx(share, abs=1e-4)


def test_logs_are_means_over_the_epoch_so_far():
    images = labelled_images()
    each, _ = probe_steps(OnlineProbe(images, None, 32), 4, new_epoch_at=range(4))
    mean, end = probe_steps(OnlineProbe(images, None, 32), 4)
    for name in ("probe/loss", "probe/top1"):
        batches = np.array(values(each, name))
        assert len(set(batches)) > 1
        expected = np.cumsum(batches) / np.arange(1, 5)
        np.testing.assert_allclose(values(mean, name), expected, rtol=1e-5)
        assert end[name] == pytest.approx(expected[-1], rel=1e-5)


def test_logs_of_a_step_are_tensors_and_those_of_an_epoch_are_floats():
    (logs,), end = probe_steps(OnlineProbe(labelled_images(), None, 32), 1)
    assert set(logs) == set(end) == {"probe/loss", "probe/top1"}
    assert all(tf.is_tensor(value) for value in logs.values())
    assert all(type(value) is float for value in end.values())


def test_probe_learns_at_every_nth_step_only():
    probe = OnlineProbe(labelled_images(), None, 32, every_steps=3)
    logs, _ = probe_steps(probe, 7)
    assert [bool(line) for line in logs] == [False, False, *[True] * 5]
    losses = values(logs[2:], "probe/loss")
    assert losses[0] == losses[1] == losses[2] != losses[3] == losses[4]


def test_epoch_without_a_step_of_the_probe_logs_nothing():
    logs, end = probe_steps(OnlineProbe(labelled_images(), None, 8, every_steps=5), 4)
    assert [*logs, end] == [{}] * 5


def test_two_replicas_share_the_batch_and_learn_what_one_does():
    probe = OnlineProbe(labelled_images(), None, batch_size=32, learning_rate=0.1)
    expected, _ = probe_steps(probe, 4)
    strategy = two_replicas()
    model = small_byol(strategy)
    with strategy.scope():  # as where a user calls `fit` in it
        logs, _ = probe_steps(probe, 4, model)
    for name in ("probe/loss", "probe/top1"):
        np.testing.assert_allclose(values(logs, name), values(expected, name), 1e-5)


def test_same_seed_gives_the_same_losses_and_another_seed_others():
    losses = [
        values(
            probe_steps(OnlineProbe(labelled_images(), None, 8, seed=seed), 3)[0],
            "probe/loss",
        )
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_probe_learns_from_the_augmented_images_of_its_view():
    view = AugmentedView([RandomResizedCrop(size=2)])
    probe = OnlineProbe(labelled_images(size=5), view, batch_size=32, learning_rate=0.1)
    _, end = probe_steps(probe, 50, new_epoch_at=(0, 40))
    assert end["probe/top1"] == 100.0


def logs_from(probe, steps, stores):
    """Losses of the steps; a store of the state after each is added to `stores`."""
    losses = []
    for step in range(steps):
        logs = {}
        probe.on_train_batch_end(step, logs)
        losses.append({name: float(value) for name, value in logs.items()})
        stores.append({})
        probe.save_own_variables(stores[-1])
        stores[-1] = {
            name: keras.ops.convert_to_numpy(value)
            for name, value in stores[-1].items()
        }
    return losses


def started_probe(every_steps):
    probe = OnlineProbe(labelled_images(), None, 8, every_steps=every_steps)
    probe.set_model(small_byol())
    probe.on_train_begin()
    probe.on_epoch_begin(0)
    return probe


@pytest.mark.parametrize("every_steps", [1, 2])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_probe_restored_after_any_step_learns_and_logs_the_same(every_steps, step):
    stores = []
    expected = logs_from(started_probe(every_steps), 8, stores)
    probe = started_probe(every_steps)
    probe.load_own_variables(stores[step - 1])
    restored = []
    assert logs_from(probe, 8 - step, restored) == expected[step:]
    for name, array in stores[-1].items():
        np.testing.assert_array_equal(restored[-1][name], array, err_msg=name)


# --- Mistakes -------------------------------------------------------------------------


def other_data(image_size, label):
    def fetch(place):
        return {"image": tf.zeros((2, 2, 1), tf.uint8), "label": label}

    rows = Rows(4, fetch, contents=lambda: ())
    return ImageData("other data", 4, 1, image_size, ("a", "b"), rows)


UNLABELLED = data.arrays(np.zeros((4, 2, 2, 1), np.uint8))
SEVERAL_LABELS = other_data((2, 2), tf.zeros(2, tf.int64))
ANY_SIZE = other_data(None, tf.constant(0, tf.int64))
BAD_PROBES = {
    "batch_size": ({"batch_size": 0}, "batch_size must be a positive int"),
    "every_steps": ({"every_steps": 0}, "every_steps must be a positive int"),
    "learning_rate": ({"learning_rate": 0.0}, "learning_rate must be a positive"),
    "no labels": ({"data": UNLABELLED}, "data of OnlineProbe must have labels"),
    "several labels": ({"data": SEVERAL_LABELS}, "must have one label per image"),
    "sizes": ({"data": ANY_SIZE}, "data of different sizes need a view"),
}


@pytest.mark.parametrize("mistake", BAD_PROBES)
def test_bad_argument_of_the_probe_is_refused_at_once(mistake):
    arguments, rule = BAD_PROBES[mistake]
    with pytest.raises(ValueError, match=f"^[^\n]*{rule}[^\n]* Received: [^\n]+$"):
        OnlineProbe(**{"data": labelled_images(), "batch_size": 8, **arguments})


def test_images_of_other_channels_or_size_are_refused_before_the_first_step():
    colour = data.arrays(np.zeros((4, 2, 2, 3), np.uint8), np.zeros(4, int))
    model = small_byol()
    for images, shape in ((colour, "(4, 2, 2, 3)"), (labelled_images(9, size=3), "")):
        with pytest.raises(ValueError, match=r"^data of OnlineProbe must .*$") as error:
            fit(model, OnlineProbe(images, None, batch_size=4))
        assert "(None, 2, 2, 1). Received: " + shape in str(error.value)
    assert model.optimizer.iterations.numpy() == 0


def test_batch_that_replicas_cannot_share_is_refused_before_the_first_step():
    model = small_byol(two_replicas())
    with pytest.raises(ValueError, match=r"^batch_size .* replicas, 2\. Received: 7$"):
        fit(model, OnlineProbe(labelled_images(), None, batch_size=7))


# --- From the command line ------------------------------------------------------------


@gin.register
def first_feature(backbone):
    features, _ = extract_features(backbone, data.fashion_mnist_small("test[:8]"))
    return {"first_feature/mean": float(features[:, 0].mean())}


EVALUATION = (
    "BenchmarkEachEpochs.benchmarks = [@first_feature]",
    "BenchmarkEachEpochs.every_epochs = 2",
    "OnlineProbe.data = @fashion_mnist_small()",
    "OnlineProbe.batch_size = 16",
)
CALLBACKS = "@BenchmarkEachEpochs, @OnlineProbe"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run with both callbacks."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder, *EVALUATION, f"train.callbacks = [{CALLBACKS}]")
    return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The same run, interrupted inside its second epoch and resumed."""
    folder = tmp_path_factory.mktemp("evaluated")
    stop = f"train.callbacks = [{CALLBACKS}, @StopAfter]"
    with pytest.raises(SystemExit) as interrupted:
        run(folder, *EVALUATION, stop, "StopAfter.steps = 4")
    assert interrupted.value.code == 130
    run(folder, *EVALUATION, f"train.callbacks = [{CALLBACKS}]")
    return folder


@pytest.mark.slow
def test_probe_of_a_resumed_run_equals_that_of_an_uninterrupted_one(
    evaluated, unbroken
):
    resumed, expected = metrics(evaluated), metrics(unbroken)
    assert len(resumed) == len(expected)
    for line, other in zip(resumed, expected, strict=True):
        names = {"step", "epoch", "probe/loss", "probe/top1", "first_feature/mean"}
        for name in names & set(other):
            assert line[name] == other[name], name


def test_metrics_hold_the_probe_at_steps_and_all_results_at_ends_of_epochs(evaluated):
    steps = [line for line in metrics(evaluated) if "loss" in line]
    ends = [line for line in metrics(evaluated) if "loss" not in line]
    assert [line["step"] for line in steps] == list(range(1, 8))
    for line in (*steps, *ends):
        assert line["probe/loss"] > 0.0
        assert 0.0 <= line["probe/top1"] <= 100.0
    assert [(line["step"], line["epoch"]) for line in ends] == [(2, 1), (5, 2), (7, 3)]
    assert ["first_feature/mean" in line for line in ends] == [False, True, True]
    value = first_feature(load_backbone(evaluated))["first_feature/mean"]
    assert ends[-1]["first_feature/mean"] == pytest.approx(value, abs=1e-6)


def test_resumed_run_with_evaluation_equals_an_uninterrupted_one_without(
    evaluated, tmp_path
):
    run(tmp_path)
    weights = [load_backbone(path).get_weights() for path in (evaluated, tmp_path)]
    for actual, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(actual, expected)


@gin.register
def colour_data():
    return data.arrays(np.zeros((4, 28, 28, 3), np.uint8), np.zeros(4, int))


MISTAKES = {
    "every_epochs": ("BenchmarkEachEpochs.every_epochs = 0", "every_epochs must be a"),
    "no function": ("BenchmarkEachEpochs.benchmarks = ['knn']", "benchmarks must be a"),
    "channels": (
        "OnlineProbe.data = @colour_data()",
        "(None, None, None, 1). Received",
    ),
    "unused": ("knn.k = (5,)", "knn.k, which nothing uses"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_on_the_command_line_is_one_line(mistake, tmp_path, capsys):
    binding, message = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "run", *EVALUATION, f"train.callbacks = [{CALLBACKS}]", binding)
    assert stop.value.code == cli.EXIT_USER_ERROR
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "run").exists()


def test_bindings_that_a_benchmark_uses_later_are_accepted(tmp_path, capsys):
    bindings = (
        "train.callbacks = [@BenchmarkEachEpochs]",
        "BenchmarkEachEpochs.benchmarks = [@knn]",
        "knn.train_data = @train_images/fashion_mnist_small()",
        "knn.test_data = @test_images/fashion_mnist_small()",
        "train_images/fashion_mnist_small.split = 'train[:50]'",
        "test_images/fashion_mnist_small.split = 'test[:20]'",
        "knn.k = (5,)",
    )
    run(tmp_path, *bindings, dry_run=True)
    assert "7 = 3 epochs" in capsys.readouterr().out
    run(tmp_path, *bindings)
    results = [line for line in metrics(tmp_path) if "knn/top1_k5" in line]
    assert [line["epoch"] for line in results] == [1, 2, 3]
