"""What the line of a benchmark's training shows, and when."""

import pytest

from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.schedules import RunLength


class Loss:
    """A loss on a device: counts how often the host reads it."""

    reads = 0

    def __float__(self):
        Loss.reads += 1
        return 1.25


def shown(capsys, steps, *arguments, **keywords):
    """The line after some steps."""
    Loss.reads = 0
    with TrainingProgress(*arguments, **keywords) as training:
        for batch in range(steps):
            training.on_train_batch_end(batch, {"loss": Loss()})
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_last_step_is_shown_with_its_loss(capsys):
    line = shown(capsys, 3, "detector", total_steps=3)
    assert line.startswith("detector ")
    assert "3/3 loss 1.25 " in line


def test_resumed_run_counts_from_its_first_step(capsys):
    assert "7/7" in shown(capsys, 2, "head", total_steps=7, first_step=5)


@pytest.mark.parametrize(("steps", "epoch"), [(4, 1), (5, 2), (9, 3)])
def test_epoch_is_that_of_the_step_shown(steps, epoch, capsys):
    length = RunLength(10, 3, 3, last_batch="pad")
    assert length.total_steps == 12
    line = shown(capsys, steps, "head", 12, length=length, show_every_steps=1)
    assert line.startswith(f"head, epoch {epoch}/3 ")


def test_loss_is_read_every_nth_step_and_at_the_end(capsys):
    shown(capsys, 50, "head", total_steps=50, show_every_steps=20)
    assert Loss.reads == 3
