import os
import signal
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.callbacks import RunPosition, TargetEMA
from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.checkpoints.signals import Interrupted, StopSignals

EPOCH_ENDS = [2, 5]


def small_byol(units=4, optimizer_fn=None, dropout=0.0):
    images = keras.Input((3,))
    h = layers.Dense(units)(layers.Dropout(dropout)(images))
    model = BYOL(keras.Model(images, h), 8, 3)
    optimizer = optimizer_fn() if optimizer_fn else keras.optimizers.Adam(schedule())
    # Eager steps of so small a model take less time than tracing them.
    model.compile(optimizer, jit_compile=False, run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    return model


def schedule():
    return keras.optimizers.schedules.CosineDecay(0.01, decay_steps=5)


def checkpoints_of(folder, model, *callbacks, **arguments):
    """Checkpoints with a position of their own, at step 0."""
    return Checkpoints(folder, model, RunPosition(EPOCH_ENDS), callbacks, **arguments)


def train(model, folder, *callbacks, resume=False, **arguments):
    """Trains to the end of epoch 2; returns the logs of its epochs."""
    checkpoints = checkpoints_of(folder, model, *callbacks, **arguments)
    position = checkpoints.position
    if resume:
        checkpoints.restore(checkpoints.folder.newest())
    views = np.random.default_rng(0).normal(size=(2, 40, 3)).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices(tuple(views)).batch(8)
    with checkpoints.signals:
        return model.fit(
            dataset.skip(position.step),
            initial_epoch=position.epoch,
            epochs=len(EPOCH_ENDS),
            steps_per_epoch=position.longest_epoch,
            shuffle=False,
            verbose=0,
            callbacks=[
                position,
                TargetEMA(0.9, total_steps=5),
                *callbacks,
                checkpoints,
            ],
        ).history


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_identical(states, expected):
    for value, other in zip(states, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def names(model_dir):
    return sorted(path.name for path in (model_dir / "checkpoints").iterdir())


def step_files(*steps):
    return [f"step_{step:09d}.npz" for step in steps]


def restored(folder, model):
    checkpoints = checkpoints_of(folder, model)
    checkpoints.restore(checkpoints.folder.newest())
    return checkpoints.position.step


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A trained model, its epoch logs, and its checkpoints of all steps."""
    folder = tmp_path_factory.mktemp("unbroken")
    keras.utils.set_random_seed(0)
    model = small_byol(dropout=0.5)
    history = train(model, folder, every_steps=1, keep=10)
    return model, history, folder


def copy_checkpoint(folder, step, destination):
    (destination / "checkpoints").mkdir(parents=True)
    (name,) = step_files(step)
    content = (folder / "checkpoints" / name).read_bytes()
    (destination / "checkpoints" / name).write_bytes(content)


# --- When -----------------------------------------------------------------------------


def test_checkpoint_is_saved_at_the_end_of_every_epoch(tmp_path):
    train(small_byol(), tmp_path)
    assert names(tmp_path) == step_files(2, 5)


def test_checkpoint_is_saved_every_n_steps(unbroken):
    assert names(unbroken[2]) == step_files(1, 2, 3, 4, 5)


def test_interval_in_minutes_is_counted_from_the_last_checkpoint(tmp_path, monkeypatch):
    class Clock(keras.callbacks.Callback):
        minutes = 0.0

        def on_train_batch_end(self, batch, logs=None):
            self.minutes += 1.0

    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: 60.0 * clock.minutes)
    # Step 2 is the end of an epoch, from which it is two minutes to step 4.
    train(small_byol(), tmp_path, clock, every_minutes=2, keep=9)
    assert names(tmp_path) == step_files(2, 4, 5)


def test_epoch_stopped_half_way_has_no_checkpoint(tmp_path):
    class StopInSecondEpoch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == 3:
                self.model.stop_training = True

    model = small_byol()
    train(model, tmp_path, StopInSecondEpoch())
    assert model.optimizer.iterations.numpy() == 3
    assert names(tmp_path) == step_files(2)


def test_worker_that_only_reads_writes_nothing(tmp_path):
    train(small_byol(), tmp_path, writes=False, every_steps=1)
    assert not (tmp_path / "checkpoints").exists()


# --- What -----------------------------------------------------------------------------


def test_restored_model_has_identical_weights_optimizer_and_step(unbroken):
    expected, _, folder = unbroken
    model = small_byol(dropout=0.5)
    assert restored(folder, model) == 5
    assert_identical(state(model), state(expected))
    assert model.optimizer.iterations.numpy() == 5


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_run_resumed_at_any_step_equals_the_unbroken_one_bit_for_bit(
    unbroken, tmp_path, step
):
    expected, history, folder = unbroken
    copy_checkpoint(folder, step, tmp_path)
    keras.utils.set_random_seed(1)
    model = small_byol(dropout=0.5)
    resumed = train(model, tmp_path, resume=True)
    assert_identical(state(model), state(expected))
    # Means over an epoch go on where they were.
    for name in ("loss", "projection_std", "learning_rate", "tau"):
        assert resumed[name][-1] == history[name][-1], name


def test_loss_scale_is_part_of_a_checkpoint(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model, other = small_byol(), small_byol()
    model.optimizer.dynamic_scale.assign(8.0)
    save(model, tmp_path)
    restored(tmp_path, other)
    assert other.optimizer.dynamic_scale.numpy() == 8.0
    assert_identical(state(other), state(model))


def save(model, folder):
    checkpoints = checkpoints_of(folder, model)
    checkpoints.position.move_to(1)
    checkpoints.on_train_begin()
    checkpoints.on_train_batch_end(0)  # is not due
    checkpoints.every_steps = 1
    checkpoints.on_train_batch_end(0)
    checkpoints.on_train_end()


def test_bfloat16_variables_are_restored(tmp_path):
    def half(value):
        images = keras.Input((3,))
        dense = layers.Dense(4, dtype="bfloat16", bias_initializer=value)
        h = layers.Identity(dtype="float32")(dense(images))
        model = BYOL(keras.Model(images, h), 8, 3)
        model.compile("sgd", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return model

    model, other = half(keras.initializers.Constant(1.5)), half("zeros")
    save(model, tmp_path)
    restored(tmp_path, other)
    bias = other.online.backbone.layers[1].bias
    assert bias.dtype == "bfloat16"
    np.testing.assert_array_equal(keras.ops.cast(bias, "float32"), [1.5] * 4)


def test_later_steps_do_not_change_a_checkpoint_being_written(tmp_path, monkeypatch):
    model = small_byol()
    kernel = model.online.variables[0]
    before = keras.ops.convert_to_numpy(kernel)
    write = np.savez

    def late(file, **arrays):
        kernel.assign(kernel + 1.0)
        write(file, **arrays)

    monkeypatch.setattr("numpy.savez", late)
    save(model, tmp_path)
    found = checkpoints_of(tmp_path, model).folder.newest()
    np.testing.assert_array_equal(found.arrays["online/0000"], before)


@pytest.mark.parametrize(
    "arguments",
    [{"units": 5}, {"optimizer_fn": lambda: keras.optimizers.SGD(0.1)}],
    ids=["another_width", "another_optimizer"],
)
def test_checkpoint_of_another_model_is_refused_and_changes_nothing(
    unbroken, arguments
):
    model = small_byol(**arguments)
    before = state(model)
    with pytest.raises(ValueError, match=r"^model_dir .* Received: .*") as error:
        restored(unbroken[2], model)
    assert len(str(error.value).splitlines()) == 1
    assert_identical(state(model), before)


def test_restore_reaches_every_replica(tmp_path):
    saved = small_byol()
    save(saved, tmp_path)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = small_byol()
    restored(tmp_path, model)
    for variable, expected in zip(
        model.online.variables, saved.online.variables, strict=True
    ):
        assert len(variable.value.values) == 2
        for replica in variable.value.values:
            np.testing.assert_array_equal(replica, expected)


# --- Other callbacks ------------------------------------------------------------------


class Counter(keras.callbacks.Callback):
    """Counts the steps of the run and, from the beginning anew, those of an epoch."""

    def on_train_begin(self, logs=None):
        self.steps = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.in_epoch = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.in_epoch += 1

    def on_epoch_end(self, epoch, logs=None):
        logs["counted"] = self.in_epoch
        self.in_epoch = 0

    def save_own_variables(self, store):
        store |= {"steps": self.steps, "in_epoch": tf.constant(self.in_epoch)}

    def load_own_variables(self, store):
        self.steps, self.in_epoch = int(store["steps"]), int(store["in_epoch"])


@pytest.mark.parametrize("step", [1, 2, 4])
def test_state_of_a_callback_is_restored(tmp_path, step):
    unbroken, resumed = tmp_path / "unbroken", tmp_path / "resumed"
    train(small_byol(), unbroken, Counter(), Counter(), every_steps=1, keep=9)
    copy_checkpoint(unbroken, step, resumed)
    first, second = Counter(), Counter()
    history = train(small_byol(), resumed, first, second, resume=True)
    assert (first.steps, second.steps) == (5, 5)
    assert history["counted"][-1] == 3


def test_callback_without_state_in_the_checkpoint_starts_anew(tmp_path):
    train(small_byol(), tmp_path, Counter())
    model, known, new = small_byol(), Counter(), Counter()
    checkpoints = checkpoints_of(tmp_path, model, known, new)
    assert checkpoints.starting_anew(checkpoints.folder.newest()) == ["Counter_2"]
    train(model, tmp_path, known, new, resume=True)


# --- The best one ---------------------------------------------------------------------


class Score(keras.callbacks.Callback):
    """Logs 2.0 after epoch 1 and 1.0 after epoch 2."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = 2.0 - epoch


@pytest.mark.parametrize(("name", "best"), [("knn/top1", 2), ("probe/loss", 5)])
def test_best_is_the_highest_score_or_the_lowest_loss(tmp_path, name, best):
    train(small_byol(), tmp_path, Score(name), keep=1, keep_best=name)
    assert names(tmp_path) == [f"best_{step_files(best)[0]}", *step_files(5)]


def test_keep_best_without_such_a_log_prints_a_line_after_one_epoch(tmp_path, capsys):
    train(small_byol(), tmp_path, Score("knn/top1"), keep_best="knn/top5")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'knn/top5'" in line
    assert "knn/top1" in line
    assert names(tmp_path) == step_files(2, 5)


# --- Signals --------------------------------------------------------------------------


class Send(keras.callbacks.Callback):
    """Sends a signal to this process while a step is at work."""

    def __init__(self, number, at_step, times=1):
        super().__init__()
        self.number, self.at_step, self.times = number, at_step, times

    def on_train_begin(self, logs=None):
        self.step = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.step += 1
        if self.step == self.at_step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_signal_ends_the_run_after_its_step_is_saved(tmp_path, number, step, capfd):
    model, signals = small_byol(), StopSignals()
    with pytest.raises(Interrupted) as ending:
        train(model, tmp_path, Send(number, step), signals=signals)
    assert ending.value.step == model.optimizer.iterations.numpy() == step
    assert names(tmp_path)[-1:] == step_files(step)
    assert signals.exit_code == 128 + number
    assert signal.Signals(number).name in capfd.readouterr().err


def test_signal_at_the_end_of_an_epoch_waits_for_other_callbacks(tmp_path):
    class Last(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.seen = epoch

    last = Last()
    with pytest.raises(Interrupted):
        train(small_byol(), tmp_path, Send(signal.SIGTERM, 2), last)
    assert last.seen == 0


def test_second_signal_interrupts_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small_byol(), tmp_path, Send(signal.SIGINT, 4, times=2))
    # What was being written in the background meanwhile is written to its end.
    deadline = time.monotonic() + 30.0
    while names(tmp_path) != step_files(2) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert names(tmp_path) == step_files(2)


def test_worker_that_only_reads_continues_after_a_signal(tmp_path):
    model = small_byol()
    train(model, tmp_path, Send(signal.SIGTERM, 1), writes=False)
    assert model.optimizer.iterations.numpy() == 5


def test_signal_handlers_are_restored(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(small_byol(), tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before


# --- Mistakes -------------------------------------------------------------------------

BAD = {
    "every_steps": (0, True, 1.5),
    "every_minutes": (0, -1, "ten"),
    "keep": (0, "two"),
    "keep_best": (1, True),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in BAD for value in BAD[name]]
)
def test_value_out_of_range_is_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .* Received: .*{value}"):
        Checkpoints(tmp_path, None, RunPosition([1]), **{name: value})


def test_failed_write_is_raised_at_the_next_checkpoint(tmp_path, monkeypatch):
    def full(file, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    model = small_byol()
    with pytest.raises(OSError, match="No space left"):
        train(model, tmp_path, every_steps=1)
    assert model.optimizer.iterations.numpy() == 2
    assert names(tmp_path) == []


def test_training_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    write, trained_on, waited = np.savez, threading.Event(), []

    def until_trained_on(file, **arrays):
        waited.append(trained_on.wait(timeout=60))
        write(file, **arrays)

    class SecondEpoch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == 3:
                trained_on.set()

    monkeypatch.setattr("numpy.savez", until_trained_on)
    train(small_byol(), tmp_path, SecondEpoch())
    assert waited == [True, True]
    assert names(tmp_path) == step_files(2, 5)
