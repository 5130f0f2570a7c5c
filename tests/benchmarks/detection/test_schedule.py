"""The published learning rates of detectors, step by step."""

import pytest

from byol_keras.benchmarks.detection.recipe import DetectorTraining
from byol_keras.benchmarks.detection.schedule import WarmupMilestones


def test_learning_rate_of_voc_is_as_published():
    schedule = DetectorTraining(steps=24000, milestones=(18000, 22000)).schedule(9999)
    golden = {0: 2e-5, 1: 0.0002198, 50: 0.01001, 99: 0.0198002, 100: 0.02}
    golden |= {17999: 0.02, 18000: 0.002, 21999: 0.002, 22000: 0.0002, 23999: 0.0002}
    for step, rate in golden.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), step
    assert schedule.total_steps == 24000


def test_learning_rate_of_coco_changes_after_whole_epochs():
    recipe = DetectorTraining(epochs=12, milestones=(8, 11), warmup_steps=1000)
    schedule = recipe.schedule(117_266)
    assert schedule.total_steps == 12 * 7330
    golden = {0: 2e-5, 500: 0.01001, 999: 0.01998002, 8 * 7330 - 1: 0.02}
    golden |= {8 * 7330: 0.002, 11 * 7330: 0.0002}
    for step, rate in golden.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), step


def test_schedule_is_rebuilt_from_its_configuration():
    schedule = WarmupMilestones(0.2, 100, [40, 80], warmup_steps=10, warmup_factor=0.1)
    again = WarmupMilestones.from_config(schedule.get_config())
    rates = [float(again(step)) for step in (0, 5, 10, 40, 80)]
    assert rates == pytest.approx([0.02, 0.11, 0.2, 0.02, 0.002])


def test_without_warmup_the_first_step_has_the_whole_rate():
    schedule = WarmupMilestones(0.2, 100, [40], warmup_steps=0, warmup_factor=0.1)
    assert float(schedule(0)) == pytest.approx(0.2)
