"""The guard and the doctor as the command line runs them."""

import json

import gin
import keras
import pytest

from byol_keras.runtime import cli
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.training.run import EXIT_STOPPED

from support.runs import FASHION_MNIST, metrics, run

# The first step whose rate is above 0 throws the weights out of float32's range.
DIVERGING = ("warmup_cosine.base_learning_rate = 1e30",)


@gin.register
def no_predictor():
    return keras.Sequential([keras.layers.Activation("linear")])


def health(folder):
    return json.loads((folder / "health.json").read_text())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    run(folder, "CollapseDoctor.every_steps = 2")
    return folder


def test_step_that_is_not_finite_stops_the_run_and_is_replayed(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *DIVERGING, "NonfiniteGuard.on_nonfinite = 'stop'")
    assert stop.value.code == EXIT_STOPPED
    error = capsys.readouterr().err
    assert "error: loss or gradients of step 2 are not finite; replay it by" in error
    assert not (tmp_path / "export").exists()
    report = json.loads(RunFolder(tmp_path).dump_report(2).read_text())
    assert report["replay"] in error
    assert report["batch"]["seed"] == 0
    assert report["batch"]["first_image"] == 2 * 32
    assert len(set(report["batch"]["images"])) <= 32

    config = tmp_path / "config.gin"
    run(tmp_path, gin_file=config, replay=2)
    printed = capsys.readouterr().out.splitlines()
    assert "loss  nan" in printed
    assert any(line.startswith("  predictor/output/kernel  ") for line in printed)
    assert printed[-1].startswith("first non-finite value: target.backbone/")

    with pytest.raises(SystemExit) as stop:
        run(tmp_path, gin_file=config, replay=1)
    assert stop.value.code == cli.EXIT_USER_ERROR
    assert "replay_step must be a step at which" in capsys.readouterr().err


def test_skipped_steps_are_in_the_log(tmp_path):
    run(tmp_path, *DIVERGING)
    skipped = [line["skipped_steps"] for line in metrics(tmp_path)]
    assert skipped == [0, 0, 1, 2, 3, 4, 5]


def test_run_without_guard_and_doctor_trains_the_same(watched, tmp_path):
    run(tmp_path, "train.guard_fn = None", "train.doctor_fn = None")
    alone, together = metrics(tmp_path), metrics(watched)
    assert [x["loss"] for x in alone] == [x["loss"] for x in together]
    read = {"skipped_steps", "monitor/rankme", "shortcut/brightness", "shortcut/all"}
    assert read <= set(together[1])
    assert not read & set(alone[1])
    assert not (tmp_path / "health.json").exists()


@pytest.mark.slow
def test_interrupted_run_has_the_health_of_the_unbroken_one(watched, tmp_path):
    callback = ("train.callbacks = [@StopAfter()]", "StopAfter.steps = 3")
    with pytest.raises(SystemExit):
        run(tmp_path, "CollapseDoctor.every_steps = 2", *callback)
    run(tmp_path, "CollapseDoctor.every_steps = 2")
    resumed, expected = health(tmp_path), health(watched)
    for part in ("first", "latest"):
        assert resumed.pop(part) == pytest.approx(expected[part], rel=1e-4)
    assert resumed.items() <= expected.items()


@pytest.mark.slow
def test_forced_collapse_stops_a_run_within_300_steps(tmp_path, capsys):
    bindings = (
        "BYOL.predictor = @no_predictor()",
        "TargetEMA.base_tau = 0.0",
        "CollapseDoctor.on_collapse = 'stop'",
    )
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *bindings, gin_file=FASHION_MNIST)
    assert stop.value.code == EXIT_STOPPED
    (change,) = health(tmp_path)["changes"]
    assert change["verdict"] == "collapsed"
    assert change["step"] <= 300
    causes = " ".join(change["causes"])
    assert "the predictor has no weights" in causes
    assert "the target is the online network itself" in causes
    assert f"error: health at step {change['step']}: collapsed" in (
        capsys.readouterr().err
    )
