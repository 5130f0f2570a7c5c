"""Learning rates of the downstream protocols."""

import pytest

from byol_keras.benchmarks.schedules import step_decay
from byol_keras.schedules import RunLength, warmup_cosine, warmup_epoch_cosine

IMAGENET = 1_281_167


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 1.6), (1, 1.59951266162), (45, 0.8), (89, 0.000487338384723)],
)
def test_epoch_cosine_without_warmup_has_the_reference_rates(epoch, expected):
    length = RunLength(IMAGENET, 4096, 90, last_batch="pad")
    schedule = warmup_epoch_cosine(length, base_learning_rate=0.1, warmup_epochs=0)
    for step in (313 * epoch, 313 * epoch + 312):
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.8), (50045, 0.400006277473), (100090, 1.97033322991e-10)],
)
def test_step_cosine_without_warmup_has_the_reference_rates(step, expected):
    length = RunLength(IMAGENET, 1024, 80)
    schedule = warmup_cosine(length, base_learning_rate=0.2, warmup_epochs=0)
    assert length.total_steps == 100_091
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.01),
        (5005 * 30 - 1, 0.01),
        (5005 * 30, 0.001),
        (5005 * 60 - 1, 0.001),
        (5005 * 60, 0.0001),
        (5005 * 90 - 1, 0.0001),
    ],
)
def test_step_decay_acts_at_the_first_step_of_its_epochs(step, expected):
    length = RunLength(IMAGENET, 256, 90, last_batch="pad")
    schedule = step_decay(length, base_learning_rate=0.01, milestones=(30, 60, 90))
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


def test_step_decay_scales_the_rate_to_the_batch_and_takes_its_factor():
    length = RunLength(2048, 512, 2, last_batch="pad")
    schedule = step_decay(length, 0.05, milestones=[1], factor=0.2)
    rates = [float(schedule(step)) for step in range(8)]
    assert rates == pytest.approx([0.1] * 4 + [0.02] * 4)


@pytest.mark.parametrize("milestones", [(), (0, 5), (5, 5), (6, 5), (2.5,), 5, "5"])
def test_milestones_must_be_ascending_positive_ints(milestones):
    length = RunLength(100, 10, 5)
    with pytest.raises(ValueError, match=r"ascending positive ints\. Received: "):
        step_decay(length, 0.1, milestones)


@pytest.mark.parametrize("name", ["base_learning_rate", "factor"])
def test_rate_and_factor_must_be_positive(name):
    settings = {"base_learning_rate": 0.1, "milestones": (1,), name: 0.0}
    with pytest.raises(ValueError, match=rf"step_decay\.{name} must be positive"):
        step_decay(RunLength(100, 10, 5), **settings)
