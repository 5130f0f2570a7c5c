"""Settings of a segmentation benchmark: wrong ones are refused by name."""

import pytest

from byol_keras.benchmarks.segmentation.augmentation import SegmentationView
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.optimizers import MomentumSGD


def recipe(**arguments):
    settings = {"view": SegmentationView(), "optimizer_fn": MomentumSGD}
    return SegmentationRecipe(**(settings | arguments))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", SegmentationView),
        ("optimizer_fn", "sgd"),
        ("steps", 2.5),
        ("batch_size", 0),
        ("learning_rate", -0.1),
        ("dropout", 1.0),
        ("precision", "half"),
    ],
)
def test_wrong_setting_is_one_line(name, value):
    match = rf"^SegmentationRecipe\.{name} must be"
    with pytest.raises(ValueError, match=match) as error:
        recipe(**{name: value})
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)


def test_schedule_falls_from_the_first_to_the_last_rate():
    schedule = recipe(steps=10, learning_rate=0.5, end_learning_rate=0.1).schedule()
    assert float(schedule(0)) == pytest.approx(0.5)
    assert float(schedule(10)) == pytest.approx(0.1)
    # Of the difference, 0.4, the half of the steps leaves a share of 0.5 ** 0.9.
    assert float(schedule(5)) == pytest.approx(0.1 + 0.4 * 0.5**0.9)
