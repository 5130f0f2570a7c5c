import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL, TargetEMA
from byol_keras.monitoring import representation
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard
from byol_keras.monitoring.shortcuts import ShortcutReader
from byol_keras.runtime import devices

BATCH = 6
STRATEGIES = {
    "one": tf.distribute.get_strategy,
    "two": lambda: devices.make_strategy("mirrored"),
}


def tiny_model(dropout=0.0, side=2, **arguments):
    keras.utils.set_random_seed(0)
    images = keras.Input((side, side, 1))
    x = keras.layers.Dense(5)(keras.layers.Flatten()(images))
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    x = keras.layers.Dropout(dropout)(keras.layers.ReLU()(x))
    model = BYOL(keras.Model(images, {"avgpool": x}), 8, 4, **arguments)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    return model


def two_views(*leading, seed=0, side=2):
    shape = (2, *leading, side, side, 1)
    return np.random.default_rng(seed).random(shape, np.float32)


PROBE = two_views(10, seed=1)


def fit(model, steps, *callbacks, side=2):
    views = tuple(two_views(steps, BATCH, side=side))
    dataset = tf.data.Dataset.from_tensor_slices(views)
    ema = TargetEMA(base_tau=0.5, total_steps=100)
    return model.fit(dataset, verbose=0, callbacks=[ema, *callbacks])


class Recorder(keras.callbacks.Callback):
    async_safe = False

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))


def state(model):
    parts = (model.online, model.target, model.predictor, model.optimizer)
    return [keras.ops.convert_to_numpy(v) for part in parts for v in part.variables]


def monitored(logs):
    return {name: x for name, x in logs.items() if name.startswith("monitor/")}


@pytest.mark.parametrize("replicas", STRATEGIES)
def test_readings_are_those_of_a_training_step_on_the_probe(replicas):
    with STRATEGIES[replicas]().scope():
        model = tiny_model()
    doctor, recorder = (
        CollapseDoctor(PROBE, batch_size=BATCH, every_steps=2),
        Recorder(),
    )
    fit(model, 2, doctor, recorder)

    (view1, view2), online, target = PROBE, model.online, model.target
    h1, h2 = (online.represent(view, training=True) for view in (view1, view2))
    z1, z2 = (online.projector(h, training=True) for h in (h1, h2))
    expected = representation.measure(h1, h2, z1, z2, target(view1, training=True))
    kernels = [
        [value.ravel() for value in map(keras.ops.convert_to_numpy, network.weights)]
        for network in (online, target)
    ]
    matrices = [len(weight.shape) > 1 for weight in online.weights]
    theirs, ours = (
        np.concatenate([x for x, use in zip(part, matrices, strict=True) if use])
        for part in kernels
    )
    expected["monitor/weight_norm"] = np.linalg.norm(theirs)
    distance = np.linalg.norm(theirs - ours) / np.linalg.norm(theirs)
    expected["monitor/weight_distance"] = distance
    expected["monitor/ema_horizon"] = BATCH / (1.0 - recorder.logs[1]["tau"])
    assert not monitored(recorder.logs[0])
    assert monitored(recorder.logs[1]) == pytest.approx(expected, rel=1e-4)


def test_doctor_changes_no_bit_of_the_training():
    states = []
    for callbacks in ((), (CollapseDoctor(PROBE, every_steps=1),)):
        model = tiny_model(dropout=0.5)
        fit(model, 3, *callbacks)
        states.append(state(model))
    assert all((a == b).all() for a, b in zip(*states, strict=True))


def test_reading_falls_on_the_first_logged_step_of_each_interval():
    doctor = CollapseDoctor(lambda: PROBE, every_steps=5, log_every_steps=3)
    doctor.step = 8
    recorder = Recorder()
    fit(tiny_model(), 14, doctor, recorder)
    steps = [9 + i for i, logs in enumerate(recorder.logs) if monitored(logs)]
    assert steps == [12, 15, 21]


class AtStep(keras.callbacks.Callback):
    """Changes the model after a step, counted from 1."""

    async_safe = False

    def __init__(self, step, change):
        super().__init__()
        self.step, self.change = step, change

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.step:
            self.change(self.model)


def collapse(model, value=0.0):
    kernel = model.online.projector.layers[-1].kernel
    kernel.assign(np.full(kernel.shape, value))


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_collapse_is_printed_and_written_and_stops_the_run(value, tmp_path, capsys):
    doctor = CollapseDoctor(
        PROBE, every_steps=1, on_collapse="stop", model_dir=tmp_path / "run"
    )
    broken = AtStep(2, lambda model: collapse(model, value))
    history = fit(tiny_model(), 4, broken, doctor)
    health = json.loads((tmp_path / "run/health.json").read_text())
    assert [(x["step"], x["verdict"]) for x in health["changes"]] == [
        (1, "healthy"),
        (2, "collapsed"),
    ]
    assert health["verdict"] == doctor.verdict == "collapsed"
    assert health["first"]["step"] == 0
    assert health["first"]["monitor/projection_std"] > 0.1
    assert health["latest"]["step"] == 2
    assert history.model.stop_training
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "health at step 1: healthy"
    assert printed[1] == doctor.stopped
    cause = "none of the usual" if value == 0.0 else "features are not finite"
    assert doctor.stopped.startswith("health at step 2: collapsed; likely cause: ")
    assert cause in doctor.stopped


def test_reading_that_is_not_finite_is_not_the_reference():
    model, doctor = tiny_model(), CollapseDoctor(PROBE, every_steps=1)
    kernel = keras.ops.convert_to_numpy(model.online.projector.layers[-1].kernel)
    collapse(model, np.inf)

    def mend(model):
        for network in (model.online, model.target):
            network.projector.layers[-1].kernel.assign(kernel)

    repair = AtStep(1, mend)
    # Else the first step would leave no weight finite.
    fit(model, 1, NonfiniteGuard(), repair, doctor)
    assert doctor.verdict == "healthy"


def test_collapse_does_not_stop_the_run_by_default():
    doctor, recorder = CollapseDoctor(PROBE, every_steps=1), Recorder()
    fit(tiny_model(), 3, AtStep(1, collapse), doctor, recorder)
    assert doctor.stopped is None
    assert len(recorder.logs) == 3


def test_target_that_stands_still_is_reported_although_healthy(capsys):
    views = tf.data.Dataset.from_tensors(tuple(two_views(BATCH)))
    doctor = CollapseDoctor(PROBE, batch_size=BATCH, every_steps=1)
    tiny_model().fit(views, verbose=0, callbacks=[doctor])
    assert capsys.readouterr().out == (
        "health at step 1: healthy; but the target stands still: there is no "
        "TargetEMA\n"
    )


def test_resumed_run_keeps_first_reading_and_earlier_verdicts(tmp_path, capsys):
    changes = [{"step": s, "verdict": v, "causes": []} for s, v in FOUND]
    health = {"first": FIRST, "changes": changes, "verdict": "shrinking"}
    (tmp_path / "health.json").write_text(json.dumps(health))
    doctor = CollapseDoctor(PROBE, every_steps=4, model_dir=tmp_path)
    doctor.step = 7
    fit(tiny_model(), 1, doctor)
    health = json.loads((tmp_path / "health.json").read_text())
    assert health["first"] == FIRST
    assert health["changes"] == changes[:1]
    assert health["verdict"] == "healthy"
    assert health["latest"]["step"] == 8
    assert "health" not in capsys.readouterr().out


# --- Shortcuts ------------------------------------------------------------------------

# Images that differ in nothing but their brightness, which both views share.
FLAT = np.random.default_rng(0).permutation(40).astype(np.float32) / 40.0
FLAT = np.broadcast_to(FLAT[:, None, None, None], (40, 8, 8, 1))


def flat_reader():
    return ShortcutReader(FLAT, (FLAT, FLAT))


def fit_flat(steps, *callbacks, model=None):
    return fit(model or tiny_model(side=8), steps, *callbacks, side=8)


def flat_doctor(every_steps=1, **arguments):
    views = two_views(10, seed=1, side=8)
    arguments = {"shortcuts": flat_reader} | arguments
    return CollapseDoctor(views, every_steps=every_steps, **arguments)


@pytest.mark.parametrize("replicas", STRATEGIES)
def test_shortcuts_are_read_in_inference_mode(replicas):
    with STRATEGIES[replicas]().scope():
        model = tiny_model(side=8)
    recorder = Recorder()
    fit_flat(2, flat_doctor(every_steps=2), recorder, model=model)
    expected = flat_reader().read(model.online.represent(FLAT, training=False))
    found = {k: x for k, x in recorder.logs[1].items() if k.startswith("shortcut/")}
    assert found == pytest.approx(expected, abs=1e-4)
    assert not [name for name in recorder.logs[0] if name.startswith("shortcut/")]


def test_reading_shortcuts_changes_no_bit_of_the_training():
    states = []
    for callbacks in ((), (flat_doctor(),)):
        model = tiny_model(dropout=0.5, side=8)
        fit_flat(3, *callbacks, model=model)
        states.append(state(model))
    assert all((a == b).all() for a, b in zip(*states, strict=True))


def test_shortcut_is_printed_once_and_written(tmp_path, capsys):
    fit_flat(3, flat_doctor(model_dir=tmp_path))
    health = json.loads((tmp_path / "health.json").read_text())
    assert health["first"]["shortcut/brightness"] < 0.01  # one direction for all
    assert health["latest"]["shortcut/brightness"] > 0.25
    assert health["survival"]["brightness"] > 0.99
    assert [*health["shortcuts"]] == ["brightness"]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "shortcut" in x]
    assert re.match(r"shortcut at step \d: mean brightness predicts \d\d% of", line)
    assert line.endswith("share it to 1.00: raise ColorJitter.brightness")


def test_resumed_run_keeps_the_first_shortcuts_and_repeats_no_sentence(
    tmp_path, capsys
):
    fit_flat(2, flat_doctor(model_dir=tmp_path))
    first = json.loads((tmp_path / "health.json").read_text())["first"]
    capsys.readouterr()
    doctor = flat_doctor(model_dir=tmp_path)
    doctor.step = 2
    fit_flat(1, doctor)
    health = json.loads((tmp_path / "health.json").read_text())
    assert health["first"] == first
    assert health["latest"]["step"] == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shortcuts", [None, lambda: None])
def test_doctor_without_shortcuts_reads_none(shortcuts, tmp_path):
    recorder = Recorder()
    doctor = flat_doctor(shortcuts=shortcuts, model_dir=tmp_path)
    fit_flat(1, doctor, recorder)
    assert not [name for name in recorder.logs[0] if name.startswith("shortcut/")]
    assert "shortcuts" not in json.loads((tmp_path / "health.json").read_text())


def test_run_shorter_than_an_interval_prepares_no_shortcuts():
    calls = []

    def noted():
        calls.append(1)

    for steps in (2, 3):
        fit_flat(steps, flat_doctor(every_steps=3, shortcuts=noted))
        assert len(calls) == steps - 2


# --- Resuming and arguments -----------------------------------------------------------


FOUND = [(4, "healthy"), (8, "shrinking")]
FIRST = {
    "step": 0,
    "monitor/projection_std": 0.8,
    "monitor/projection_rankme": 3.0,
    "monitor/weight_norm": 4.0,
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_collapse": "skip"}, "on_collapse must be one of.*'skip'"),
        ({"every_steps": 0}, "every_steps must be a positive int. Received: 0"),
        ({"log_every_steps": 2.0}, "log_every_steps must be a positive int.*2.0"),
    ],
)
def test_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CollapseDoctor(PROBE, **arguments)
