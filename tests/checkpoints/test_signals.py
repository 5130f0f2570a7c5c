import os
import signal

import pytest
import tensorflow as tf

from byol_keras.checkpoints.signals import Interrupted, OneLineEnding, StopSignals
from byol_keras.data.reach import OutOfReach


def ending(error, capsys, received=None):
    """Exit code and line of a run that ends so."""
    signals = StopSignals()
    signals.received = received
    with OneLineEnding(signals, "runs/a") as end:
        raise error
    with pytest.raises(SystemExit) as stop:
        end.exit_if_ended()
    (line,) = capsys.readouterr().err.strip().splitlines()
    return stop.value.code, line


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupted_run_says_which_step_is_saved_and_how_to_resume(
    number, code, capsys
):
    assert ending(Interrupted(12), capsys, number) == (
        code,
        "step 12 is saved; the same command with model_dir=runs/a resumes there",
    )


def test_run_interrupted_at_once_resumes_at_the_newest_checkpoint(capsys):
    code, line = ending(KeyboardInterrupt(), capsys)
    assert code == 130
    assert line.startswith("interrupted; the same command with model_dir=runs/a")


def test_full_disk_is_one_line_and_exit_code_1(capsys):
    code, line = ending(OSError(28, "No space left on device"), capsys)
    assert code == 1
    assert line.startswith("error: model_dir must be writable")
    assert line.endswith("Received: [Errno 28] No space left on device")


def test_full_disk_that_tensorflow_reports_is_the_same_line(capsys):
    words = "{{function_node F}} runs/a/logs/events; No space left on device [Op:Write]"
    error = tf.errors.ResourceExhaustedError(None, None, words)
    code, line = ending(error, capsys)
    assert code == 1
    assert line.startswith("error: model_dir must be writable")
    assert line.endswith("[Errno 28] No space left on device: 'runs/a/logs/events'")


def test_images_out_of_reach_are_no_fault_of_the_run_folder(capsys):
    code, line = ending(OutOfReach("images must be within reach"), capsys)
    assert code == 1
    assert line == (
        "error: images must be within reach; the same command with model_dir=runs/a "
        "resumes at the newest checkpoint"
    )


def test_signal_before_or_after_training_has_its_exit_code(capsys):
    code, _ = ending(KeyboardInterrupt(signal.SIGTERM), capsys)
    assert code == 143


def test_run_without_an_error_does_not_exit():
    with OneLineEnding(StopSignals(), "runs/a") as end:
        pass
    end.exit_if_ended()


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), OneLineEnding(StopSignals(), "runs/a"):
        raise ZeroDivisionError


def test_first_signal_is_noted_and_the_second_interrupts():
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signals.exit_code == 143
