import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL, TargetEMA
from byol_keras.monitoring.nonfinite import (
    NonfiniteGuard,
    load_dump,
    weights_fingerprint,
)
from byol_keras.runtime import devices
from byol_keras.runtime.run_folder import RunFolder

BATCH = 4
STRATEGIES = {
    "one": tf.distribute.get_strategy,
    "two": lambda: devices.make_strategy("mirrored"),
}


@keras.saving.register_keras_serializable(package="tests")
class TimesGradient(keras.layers.Layer):
    """Passes values on as they are, and gradients times a factor."""

    factor = np.inf

    def call(self, x):
        @tf.custom_gradient
        def identity(x):
            return x, lambda upstream: upstream * tf.cast(self.factor, x.dtype)

        return identity(x)


def tiny_model(*last_layers):
    keras.utils.set_random_seed(0)
    images = keras.Input((2, 2, 1))
    x = keras.layers.Flatten()(images)
    x = keras.layers.Dense(4)(x)
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    for layer in last_layers:
        x = layer(x)
    model = BYOL(keras.Model(images, x), 8, 4)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    return model


def batches(steps, bad=()):
    """Both views; a batch whose number is `bad` has one bad pixel."""
    views = np.random.default_rng(0).random((2, steps, BATCH, 2, 2, 1), np.float32)
    for step in bad:
        # In the last image, which the second of two replicas gets.
        views[0, step, -1, 1, 1] = np.nan
    return views


def fit(model, views, *callbacks):
    dataset = tf.data.Dataset.from_tensor_slices(tuple(views))
    ema = TargetEMA(base_tau=0.5, total_steps=100)
    return model.fit(dataset, verbose=0, callbacks=[ema, *callbacks]).history


class Recorder(keras.callbacks.Callback):
    """Keeps logs and state of each step."""

    async_safe = False

    def __init__(self):
        super().__init__()
        self.logs, self.states = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))
        self.states.append(state(self.model))

    def logged(self, name):
        return [logs[name] for logs in self.logs]


def state(model):
    parts = (model.online, model.target, model.predictor, model.optimizer)
    variables = [variable for part in parts for variable in part.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def same(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "replicas", ["one", pytest.param("two", marks=pytest.mark.slow)]
)
def test_run_with_bad_batches_ends_as_the_unguarded_run_without_them(replicas):
    views, recorder = batches(5, bad=(1, 2, 4)), Recorder()
    with STRATEGIES[replicas]().scope():
        guarded, unguarded = tiny_model(), tiny_model()
    history = fit(guarded, views, NonfiniteGuard(every_steps=1), recorder)
    fit(unguarded, views[:, [0, 3]])
    assert recorder.logged("skipped_steps") == [0, 1, 2, 2, 3]
    assert np.isnan(recorder.logged("loss")).tolist() == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert same(recorder.states[0], recorder.states[2])
    assert not same(recorder.states[2], recorder.states[3])
    assert same(state(guarded), state(unguarded))
    # Skipped steps take no part in the epoch's mean.
    assert history["loss"] == [pytest.approx(np.mean(recorder.logged("loss")[0:4:3]))]


def test_gradient_that_is_not_finite_is_skipped_at_a_finite_loss():
    model, recorder = tiny_model(TimesGradient()), Recorder()
    before = state(model)
    fit(model, batches(2), NonfiniteGuard(every_steps=1), recorder)
    assert np.isfinite(recorder.logged("loss")).all()
    assert recorder.logged("skipped_steps") == [1, 2]
    assert same(state(model), before)


def test_bad_steps_in_a_row_stop_the_run_and_no_later_step_changes_it(tmp_path, capsys):
    model, recorder = tiny_model(), Recorder()
    guard = NonfiniteGuard(
        max_in_a_row=2,
        every_steps=6,
        model_dir=tmp_path,
        describe=lambda step: {"images": [step]},
    )
    fit(model, batches(9, bad=(1, 3, 4)), guard, recorder)
    assert guard.stopped.startswith(
        "loss or gradients of 2 steps in a row, from step 3 on, are not finite; replay"
    )
    assert capsys.readouterr().out == f"{guard.stopped}\n"
    # Step 5 was good again, but came before the host had read the counts.
    assert recorder.logged("skipped_steps") == [0, 0, 0, 0, 0, 3]
    assert same(recorder.states[2], recorder.states[5])

    report = json.loads(RunFolder(tmp_path).dump_report(3).read_text())
    assert report["replay"] in guard.stopped
    assert report["replay"].endswith("--replay_step=3")
    assert report | {"replay": None} == {
        "step": 3,
        "steps_in_a_row": 2,
        "skipped_steps": 3,
        "weights_sha256": weights_fingerprint(model),
        "config": str(tmp_path / "config.gin"),
        "replay": None,
        "batch": {"images": [3]},
    }
    other = tiny_model()
    assert weights_fingerprint(other) != report["weights_sha256"]
    load_dump(tmp_path, 3, other)
    assert weights_fingerprint(other) == report["weights_sha256"]


class EndEpoch(keras.callbacks.Callback):
    """Ends the epoch as `callbacks.RunPosition` does, after two steps."""

    async_safe = False

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.model.stop_training = "epoch ended"


def test_stop_at_the_first_bad_step_is_read_at_the_end_of_an_epoch():
    model, recorder = tiny_model(), Recorder()
    guard = NonfiniteGuard("stop", every_steps=100)
    guard.step = 50
    fit(model, batches(4, bad=(1,)), EndEpoch(), guard, recorder)
    assert guard.stopped == "loss or gradients of step 51 are not finite"
    assert model.stop_training is True
    assert same(*recorder.states)

    # A step that was traced with one guard is traced anew for the next.
    second = NonfiniteGuard("stop", every_steps=1)
    fit(model, batches(2, bad=(1,)), second, recorder)
    assert second.stopped == "loss or gradients of step 1 are not finite"
    assert not same(*recorder.states[1:3])


def test_overflow_under_loss_scaling_lowers_the_scale_and_stops_nothing():
    keras.config.set_dtype_policy("mixed_float16")
    layer = TimesGradient()
    layer.factor = 2.0**13
    model, recorder = tiny_model(layer), Recorder()
    model.optimizer.dynamic_scale.assign(2.0**15)
    before = state(model)
    guard = NonfiniteGuard("stop", every_steps=1)
    fit(model, batches(3, bad=(2,)), guard, recorder)
    assert recorder.logged("skipped_steps") == [1, 2, 3]
    # Neither weights nor statistics; the last of the variables is the scale.
    networks = len(model.online.variables + model.target.variables)
    networks += len(model.predictor.variables)
    assert same(recorder.states[1][:networks], before[:networks])
    assert float(model.optimizer.dynamic_scale) == 2.0**12
    # The last one was no overflow: its loss is not finite.
    assert guard.stopped == "loss or gradients of step 2 are not finite"


def test_checkpoint_keeps_the_counts_and_gives_a_stopped_run_another_try():
    model, guard = tiny_model(), NonfiniteGuard(max_in_a_row=2, every_steps=1)
    fit(model, batches(4, bad=(0, 2, 3)), guard)
    assert guard.stopped
    store = {}
    guard.save_own_variables(store)

    class Resumed(keras.callbacks.Callback):
        async_safe = False

        def on_epoch_begin(self, epoch, logs=None):
            second.load_own_variables(store)

    second, recorder = NonfiniteGuard(max_in_a_row=2, every_steps=1), Recorder()
    fit(model, batches(2, bad=(0,)), Resumed(), second, recorder)
    assert recorder.logged("skipped_steps") == [4, 4]
    assert not second.stopped
    assert not same(*recorder.states)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_nonfinite": "warn"}, "on_nonfinite must be one of.*'warn'"),
        ({"max_in_a_row": 0}, "max_in_a_row must be a positive int. Received: 0"),
        ({"every_steps": True}, "every_steps must be a positive int. Received: True"),
    ],
)
def test_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonfiniteGuard(**arguments)
