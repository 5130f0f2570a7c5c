"""What the doctor said of recorded runs is what its thresholds and the pages say."""

import pytest

from byol_keras.monitoring import representation

from support import ROOT

EXPERIMENTS = ROOT / "experiments"
# Of method_resnet18_12e -> the verdict at the end, and a word of its likely cause.
BROKEN = {
    "no_predictor": ("collapsed", "predictor"),
    "no_predictor_tau_0": ("collapsed", "predictor"),
    "rate_x10": ("shrinking", "learning rate"),
    "rate_x50": ("shrinking", "learning rate"),
    "decay_x100": ("shrinking", "weight decay"),
}
# They spread out, but do not learn as they should: healthy, and told.
TOLD = {
    "tau_0": "the target is the online network itself: tau is 0",
    "base_tau_0": "the target is the online network itself: tau is 0.027",
    "base_tau_1": "the target stands still: tau is 1",
}


@pytest.fixture
def recorded(experiments):
    """A record, and the verdict that each of its readings gets today."""
    records = experiments("recorded")

    def read(folder, name):
        found = records.read_records(EXPERIMENTS / folder)[name]
        readings = records.doctor_readings(found)
        return found, [representation.verdict(found["first"], x) for x in readings]

    return read


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quickstart_is_healthy_at_every_reading(seed, recorded):
    found, verdicts = recorded("fashion_mnist_small_resnet18_36e", f"config_seed{seed}")
    assert found["verdicts"] == [{"step": 100, "verdict": "healthy", "causes": []}]
    assert verdicts == ["healthy"] * 28


@pytest.mark.parametrize("name", BROKEN)
def test_broken_run_is_found_out_within_300_steps(name, recorded):
    verdict, cause = BROKEN[name]
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    last = found["verdicts"][-1]
    assert last["verdict"] == verdicts[-1] == verdict
    assert last["step"] <= 300
    assert any(cause in text for text in last["causes"])


@pytest.mark.parametrize("name", TOLD)
def test_target_without_a_memory_or_a_motion_is_told(name, recorded):
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    assert found["verdicts"] == [
        {"step": 100, "verdict": "healthy", "causes": [TOLD[name]]}
    ]
    assert set(verdicts) == {"healthy"}


@pytest.mark.parametrize(
    "name", ["base", "no_crop", "no_jitter", "target_random", "batch_64", "batch_512"]
)
def test_run_that_learns_raises_no_alarm(name, recorded):
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    assert found["verdicts"] == [{"step": 100, "verdict": "healthy", "causes": []}]
    assert set(verdicts) == {"healthy"}
