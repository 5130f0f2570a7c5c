"""Runs that are killed many times end like uninterrupted ones, bit for bit."""

import json
import random
import signal
from collections import Counter

import keras
import numpy as np
import pytest

from byol_keras.checkpoints.files import CheckpointFolder, read_checkpoint

from support.processes import ForkServer
from support.runs import tensorboard_scalars, untimed_metrics

# 20 epochs of 2 or 3 steps; a backbone with draws of its own, statistics, and a probe
# with weights, an optimizer and data of its own.
RECIPE = (
    "train.epochs = 20",
    "train.backbone_fn = @dropout_backbone",
    "train.callbacks = [@OnlineProbe]",
    "OnlineProbe.data = @fashion_mnist_small()",
    "OnlineProbe.batch_size = 16",
    "OnlineProbe.every_steps = 2",
    "Checkpoints.every_steps = 1",
    "CollapseDoctor.every_steps = 10",
)
TOTAL_STEPS = 50
# A checkpoint of each step, to compare with.
UNBROKEN = ("Checkpoints.every_steps = 1", "Checkpoints.keep = 1000")


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


# Several replicas save the sum of their sums in a metric, which rounds once more.
ROUNDING = 1e-6


def assert_identical(found, expected, replicas=1):
    assert set(found.arrays) == set(expected.arrays)
    for name, array in expected.arrays.items():
        tolerance = ROUNDING if replicas > 1 and name.startswith("metrics/") else 0.0
        np.testing.assert_allclose(
            found.arrays[name], array, rtol=tolerance, err_msg=name
        )


class KilledRun:
    """A run that is killed many times, and an uninterrupted one to compare it with."""

    def __init__(self, server, folder, *bindings, **options):
        self.server, self.options = server, options
        self.replicas = options.get("devices", 1)
        self.unbroken, self.folder = folder / "unbroken", folder / "killed"
        self.bindings = (*RECIPE, *bindings)
        code, output = server.run(self.unbroken, *self.bindings, *UNBROKEN, **options)
        assert code == 0, output

    def live(self, **kill):
        """Starts the run and kills it later; returns its exit code and output."""
        return self.server.run(
            self.folder, *self.bindings, kill=kill or None, **self.options
        )

    def step(self):
        """Step of the newest checkpoint, after comparing it with the other run's."""
        found = CheckpointFolder(self.folder / "checkpoints").newest()
        if found is None:
            return 0
        name = f"checkpoints/step_{found.step:09d}.npz"
        assert_identical(found, read_checkpoint(self.unbroken / name), self.replicas)
        return found.step

    def end(self):
        """Runs to the end and compares all files of the two runs."""
        code, output = self.live()
        assert code == 0, output
        assert self.step() == TOTAL_STEPS
        self.assert_same_logs(untimed_metrics)
        health = [
            json.loads((path / "health.json").read_text())
            for path in (self.folder, self.unbroken)
        ]
        assert health[0] == health[1]
        self.assert_same_logs(tensorboard_scalars)
        shown = tensorboard_scalars(self.folder)
        assert [step for step, _ in shown] == [*range(1, TOTAL_STEPS + 1)]
        exports = [
            keras.models.load_model(path / "export/backbone.keras").get_weights()
            for path in (self.folder, self.unbroken)
        ]
        for array, other in zip(*exports, strict=True):
            np.testing.assert_array_equal(array, other)

    def assert_same_logs(self, read):
        """Compares what `read` returns for the two run folders."""
        tolerance = ROUNDING if self.replicas > 1 else 0.0
        found, expected = read(self.folder), read(self.unbroken)
        for entry, other in zip(found, expected, strict=True):
            assert entry == pytest.approx(other, rel=tolerance, abs=0.0)


def random_moment(rng):
    """A random moment within the first steps of a process; all kinds are drawn."""
    kind = rng.choice(["in step"] * 5 + ["in write"] * 4 + ["around rename", "line"])
    number = rng.randint(1, 4)
    if kind == "in step":
        # A step takes some 10 ms, the first one seconds.
        return {"moment": kind, "step": number, "seconds": rng.uniform(0.0, 0.05)}
    if kind == "in write":
        return {"moment": kind, "checkpoint": number, "share": rng.random()}
    if kind == "around rename":
        return {"moment": kind, "checkpoint": number, "before": rng.random() < 0.5}
    return {"moment": "in metrics line", "line": number, "share": rng.random()}


def kill_at_random(run, times, seed):
    """Kills the run `times` times; returns the count of each kind."""
    rng = random.Random(seed)
    kinds = Counter()
    before = 0
    for _ in range(times):
        moment = random_moment(rng)
        code, output = run.live(**moment)
        assert code == -signal.SIGKILL, output
        kinds[moment["moment"]] += 1
        step = run.step()
        assert step >= before
        before = step
    assert 0 < before < TOTAL_STEPS
    return kinds


@pytest.mark.slow
def test_run_killed_12_times_at_random_moments_equals_an_uninterrupted_one(
    server, tmp_path
):
    run = KilledRun(server, tmp_path)
    kinds = kill_at_random(run, times=12, seed=6)
    assert len(kinds) == 4
    assert kinds["in write"] >= 5
    run.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bindings", "options"),
    [
        (("BYOL.accumulation_steps = 4",), {}),
        ((), {"devices": 2, "strategy": "mirrored"}),
        (("train.deterministic = True",), {}),
    ],
    ids=["accumulation", "two_devices", "deterministic_operations"],
)
def test_killed_run_equals_an_uninterrupted_one_with(
    server, tmp_path, bindings, options
):
    run = KilledRun(server, tmp_path, *bindings, **options)
    kill_at_random(run, times=3, seed=1)
    run.end()


@pytest.mark.slow
def test_run_ended_by_sigterm_4_times_equals_an_uninterrupted_one(server, tmp_path):
    run = KilledRun(server, tmp_path, "Checkpoints.every_steps = None")
    rng = random.Random(2)
    before = 0
    for _ in range(4):
        moment = {"step": rng.randint(2, 6), "seconds": rng.uniform(0.0, 0.02)}
        code, output = run.live(moment="in step", number=signal.SIGTERM, **moment)
        assert code == 143, output
        assert "is saved; the same command with model_dir=" in output
        assert run.step() > before
        before = run.step()
    run.end()
