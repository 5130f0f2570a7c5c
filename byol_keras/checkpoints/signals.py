"""How a run ends before its end: by a signal, between two steps; by a full disk."""

import os
import signal
import sys

from byol_keras.runtime import cli

EXIT_FAILED = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """The run has been stopped by a signal, and its last step has been saved.

    Args:
        step: int. That step.
    """

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class StopSignals:
    """Notes SIGTERM and SIGINT instead of dying of them, while it is entered.

    A second signal interrupts at once, by a KeyboardInterrupt.

    Attributes:
        received: number of the first signal, or None.
    """

    def __init__(self):
        self.received = None

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that the signal killed."""
        return 128 + (self.received or signal.SIGINT)

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
        # `print` may be at work in the frame that the signal has interrupted.
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: this step ends, then it is saved\n".encode())


class OneLineEnding:
    """Ends an interrupted run, or one that cannot be written, with one line.

    It is entered around the run; `exit_if_ended` comes after it, when what the
    exception held, such as the input pipeline, has been freed.

    Args:
        signals: tells the exit code: 130 or 143.
        model_dir: path of the run folder.
        lost: exceptions that tell of another worker's end.
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
        if isinstance(error, Interrupted):
            line = f"step {error.step} is saved; {self.resume} there"
            self.exit_code = self.signals.exit_code
        elif isinstance(error, KeyboardInterrupt):
            line = f"interrupted; {self.resume} at the newest checkpoint"
            self.exit_code = self.signals.exit_code
        elif isinstance(error, OSError):
            line = (
                "error: model_dir must be writable; when it is, "
                f"{self.resume} at the newest checkpoint. Received: {error}"
            )
            self.exit_code = EXIT_FAILED
        elif isinstance(error, self.lost):
            line = f"error: another worker has left; on all of them, {self.resume}"
            line += f" at the newest checkpoint. Received: {_first_line(error)}"
            self.exit_code = (
                self.signals.exit_code if self.signals.received else EXIT_FAILED
            )
        if self.exit_code is None:
            return False
        print(f"\n{cli.with_flags(line)}", file=sys.stderr)
        return True

    def exit_if_ended(self) -> None:
        """Leaves the process if the run has been ended."""
        if self.exit_code is not None:
            sys.exit(self.exit_code)


def _first_line(error):
    return str(error).strip().partition("\n")[0]
