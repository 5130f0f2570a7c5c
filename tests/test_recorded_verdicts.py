"""Verdicts of the collapse doctor on recorded runs, with today's thresholds too."""

import pytest

from byol_keras.monitoring import representation

from support import ROOT

EXPERIMENTS = ROOT / "experiments"
# Variant of method_resnet18_12e -> verdict at the end, and a word of the likely cause.
BROKEN = {
    "no_predictor": ("collapsed", "predictor"),
    "no_predictor_tau_0": ("collapsed", "predictor"),
    "rate_x10": ("shrinking", "learning rate"),
    "rate_x50": ("shrinking", "learning rate"),
    "decay_x100": ("shrinking", "weight decay"),
}
# Variants with healthy features that do not learn as they should -> the warning.
WARNED = {
    "tau_0": "the target is the online network itself: tau is 0",
    "base_tau_0": "the target is the online network itself: tau is 0.027",
    "base_tau_1": "the target stands still: tau is 1",
}


@pytest.fixture
def recorded(experiments):
    """A function: a record, and today's verdict on each of its readings."""
    records = experiments("recorded")

    def read(folder, name):
        found = records.read_records(EXPERIMENTS / folder)[name]
        readings = records.doctor_readings(found)
        return found, [representation.verdict(found["first"], x) for x in readings]

    return read


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_run_on_fashion_mnist_is_healthy_at_every_reading(seed, recorded):
    found, verdicts = recorded("fashion_mnist_small_resnet18_36e", f"config_seed{seed}")
    assert found["verdicts"] == [{"step": 100, "verdict": "healthy", "causes": []}]
    assert verdicts == ["healthy"] * 28


@pytest.mark.parametrize("name", BROKEN)
def test_broken_run_is_detected_within_300_steps(name, recorded):
    verdict, cause = BROKEN[name]
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    last = found["verdicts"][-1]
    assert last["verdict"] == verdicts[-1] == verdict
    assert last["step"] <= 300
    assert any(cause in text for text in last["causes"])


@pytest.mark.parametrize("name", WARNED)
def test_target_with_tau_of_0_or_1_has_a_warning(name, recorded):
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    assert found["verdicts"] == [
        {"step": 100, "verdict": "healthy", "causes": [WARNED[name]]}
    ]
    assert set(verdicts) == {"healthy"}


@pytest.mark.parametrize(
    "name", ["base", "no_crop", "no_jitter", "target_random", "batch_64", "batch_512"]
)
def test_run_that_learns_has_no_warning(name, recorded):
    found, verdicts = recorded("method_resnet18_12e", f"{name}_seed0")
    assert found["verdicts"] == [{"step": 100, "verdict": "healthy", "causes": []}]
    assert set(verdicts) == {"healthy"}
