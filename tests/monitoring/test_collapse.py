import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL, TargetEMA
from byol_keras.monitoring import representation
from byol_keras.monitoring.collapse import CollapseDoctor, likely_causes
from byol_keras.monitoring.nonfinite import NonfiniteGuard
from byol_keras.runtime import devices

BATCH = 6
STRATEGIES = {
    "one": tf.distribute.get_strategy,
    "two": lambda: devices.make_strategy("mirrored"),
}


def tiny_model(dropout=0.0, **arguments):
    keras.utils.set_random_seed(0)
    images = keras.Input((2, 2, 1))
    x = keras.layers.Dense(5)(keras.layers.Flatten()(images))
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    x = keras.layers.Dropout(dropout)(keras.layers.ReLU()(x))
    model = BYOL(keras.Model(images, {"avgpool": x}), 8, 4, **arguments)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    return model


def two_views(*leading, seed=0):
    shape = (2, *leading, 2, 2, 1)
    return np.random.default_rng(seed).random(shape, np.float32)


PROBE = two_views(10, seed=1)


def fit(model, steps, *callbacks):
    dataset = tf.data.Dataset.from_tensor_slices(tuple(two_views(steps, BATCH)))
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


FOUND = [(4, "healthy"), (8, "shrinking")]
FIRST = {
    "step": 0,
    "monitor/projection_std": 0.8,
    "monitor/projection_rankme": 3.0,
    "monitor/weight_norm": 4.0,
}


def predictor():
    return keras.Sequential([keras.layers.Dense(4)])


def no_predictor():
    return keras.Sequential([keras.layers.Activation("linear")])


ORDINARY = {"tau": 0.99, "monitor/weight_norm": 4.1, "monitor/weight_distance": 0.1}


@pytest.mark.parametrize(
    ("parts", "changes", "cause"),
    [
        ({}, {}, "none of the usual ones"),
        ({"predictor": no_predictor()}, {}, "the predictor has no weights"),
        ({}, {"tau": 0.0}, "the target is the online network itself: tau is 0"),
        ({}, {"tau": 0.3}, "the target is the online network itself: tau is 0.3"),
        ({}, {"tau": 1.0}, "the target stands still: tau is 1"),
        ({}, {"tau": None}, "the target stands still: there is no TargetEMA"),
        (
            {"projector": predictor(), "predictor": predictor()},
            {},
            "neither projector nor predictor normalises",
        ),
        (
            {},
            {"monitor/weight_norm": 6.0},
            "weights have grown 1.5 times: the learning",
        ),
        ({}, {"monitor/weight_norm": None}, "weights have grown inf times"),
        ({}, {"monitor/weight_norm": 2.0}, "shrunk to 50%: the weight decay"),
        ({}, {"skipped_steps": 1}, "steps were not finite"),
    ],
)
def test_likely_cause_is_named(parts, changes, cause):
    latest = {k: v for k, v in (ORDINARY | changes).items() if v is not None}
    (found,) = likely_causes(tiny_model(**parts), FIRST, latest, "shrinking")
    assert cause in found
    # Only what keeps a spread-out representation from learning is told of it.
    causes = likely_causes(tiny_model(**parts), FIRST, latest, "healthy")
    assert causes == ([found] if "the target" in cause else [])


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
