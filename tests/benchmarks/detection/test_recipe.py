"""Impossible settings of a detector's training are refused."""

import pytest

from byol_keras.benchmarks.detection.recipe import DetectorTraining


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"epochs": 1}, "either steps or epochs"),
        ({"steps": None}, "either steps or epochs"),
        ({"steps": 0}, "steps must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"milestones": (3, 2)}, "milestones must be positive and ascend"),
    ],
)
def test_impossible_recipe_is_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        DetectorTraining(**({"steps": 4} | changes))


def test_length_in_epochs_counts_whole_batches_of_images():
    recipe = DetectorTraining(epochs=3, milestones=(2,), batch_size=4)
    schedule = recipe.schedule(num_images=10)
    assert (schedule.total_steps, schedule.milestones) == (9, [6])
