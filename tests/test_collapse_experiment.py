"""What experiments/collapse holds is what thresholds and README say of it."""

import json
import pathlib

import pytest

from byol_keras import monitors

FOLDER = pathlib.Path(__file__).parents[1] / "experiments/collapse"
RESULTS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((FOLDER / "results").glob("*.json"))
}
# Variant -> the verdict at the end of its 300 steps, and a word of its likely cause.
BROKEN = {
    "no_predictor_tau_0": ("collapsed", "predictor"),
    "no_predictor": ("collapsed", "predictor"),
    "tau_0": ("shrinking", "tau"),
    "learning_rate_x10": ("shrinking", "learning rate"),
    "learning_rate_x50": ("shrinking", "learning rate"),
    "weight_decay_x100": ("shrinking", "weight decay"),
}


def verdicts(results):
    """The verdict that each reading gets today."""
    first = results["first"]
    return [monitors.verdict(first, reading) for reading in results["readings"]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_quickstart_is_healthy_at_every_reading(seed):
    results = RESULTS[f"healthy_seed{seed}"]
    assert [x["verdict"] for x in results["verdicts"]] == ["healthy"]
    assert verdicts(results) == ["healthy"] * 28


@pytest.mark.parametrize("variant", BROKEN)
def test_broken_quickstart_is_found_out_within_300_steps(variant):
    verdict, cause = BROKEN[variant]
    results = RESULTS[f"{variant}_seed0"]
    last = results["verdicts"][-1]
    assert last["verdict"] == verdicts(results)[-1] == verdict
    assert last["step"] <= 300
    assert any(cause in text for text in last["causes"])


def test_target_that_starts_at_random_raises_no_alarm():
    results = RESULTS["target_init_random_seed0"]
    assert [x["verdict"] for x in results["verdicts"]] == ["healthy"]
    assert set(verdicts(results)) == {"healthy"}


def test_frozen_target_is_healthy_but_told():
    (verdict,) = RESULTS["tau_1_seed0"]["verdicts"]
    assert verdict["verdict"] == "healthy"
    assert verdict["causes"] == ["the target stands still: tau is 1"]
