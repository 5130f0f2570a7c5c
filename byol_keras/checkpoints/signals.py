"""Graceful shutdown on SIGTERM/SIGINT, a full disk or a lost worker."""

import os
import signal
import sys

import tensorflow as tf

from byol_keras.data.reach import OutOfReach
from byol_keras.runtime import cli
from byol_keras.runtime.errors import os_error_of

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """A signal has stopped the run after its last step was saved.

    Args:
        step: int. The step that was saved.
    """

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class StopSignals:
    """Context manager that records SIGTERM and SIGINT instead of ending the process.

    A second signal raises KeyboardInterrupt at once.

    Attributes:
        received: number of the first signal, or None.
    """

    def __init__(self):
        self.received = None

    @property
    def exit_code(self) -> int | None:
        """What a shell reports for a process killed by the signal; None without one."""
        return self.received and 128 + self.received

    def __enter__(self):
        self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        # `print` is not reentrant, and the signal may have interrupted one.
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: stopping after this step is saved\n".encode())


class OneLineEnding:
    """Context manager that reports the early end of a run in one line on stderr.

    Call `exit_if_ended` after the block: by then the exception is gone, and with it the
    input pipeline that it kept alive.

    Args:
        signals: `StopSignals`, for the exit codes 130 and 143.
        model_dir: path of the run folder.
        lost: exceptions that are raised when another worker has left.
    """

    def __init__(
        self,
        signals: StopSignals,
        model_dir: str | os.PathLike,
        lost: tuple[type[Exception], ...] = (),
    ):
        self.signals = signals
        self.lost = lost
        self.resume = f"the same command with model_dir={model_dir} resumes"
        self.exit_code = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, tf.errors.OpError) and not isinstance(error, self.lost):
            error = os_error_of(error) or error
        if isinstance(error, Interrupted):
            line = f"step {error.step} is saved; {self.resume} there"
            self.exit_code = self.signals.exit_code
        elif isinstance(error, KeyboardInterrupt):
            line = f"interrupted; {self.resume} at the newest checkpoint"
            self.exit_code = self.signals.exit_code or cli.exit_code_of(error)
        elif isinstance(error, OutOfReach):
            line = f"error: {error}; {self.resume} at the newest checkpoint"
            self.exit_code = cli.EXIT_FAILED
        elif isinstance(error, OSError):
            line = (
                "error: model_dir must be writable; when it is, "
                f"{self.resume} at the newest checkpoint. Received: {error}"
            )
            self.exit_code = cli.EXIT_FAILED
        elif isinstance(error, self.lost):
            line = f"error: another worker has left; on all of them, {self.resume}"
            line += f" at the newest checkpoint. Received: {_first_line(error)}"
            self.exit_code = self.signals.exit_code or cli.EXIT_FAILED
        if self.exit_code is None:
            return False
        print(f"\n{cli.with_flags(line)}", file=sys.stderr)
        return True

    def exit_if_ended(self) -> None:
        """Exits if the run has ended early."""
        if self.exit_code is not None:
            sys.exit(self.exit_code)


def _first_line(error):
    return str(error).strip().partition("\n")[0]
