"""A user's mistakes: collected, then reported together, one line each."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence

# Errors that set-up code raises for wrong input: our own checks raise ValueError, a
# value of the wrong type causes a TypeError somewhere, and gin raises RuntimeError for
# a missing binding.
KINDS = (ValueError, TypeError, RuntimeError, OSError)
# Errors of disks and of networks, which no argument causes.
_OUTSIDE = {
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
    errno.ENOSPC,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_CODES = {os.strerror(code): code for code in errno.errorcode}


class Mistakes(ValueError):
    """Several mistakes in one error.

    Args:
        lines: one line per mistake, "argument must be rule. Received: value".
    """

    def __init__(self, lines: Sequence[str]):
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class OutsideFailure(OSError):
    """A failure that the user did not cause, as a disk that is gone."""


def is_outside(error: BaseException | None) -> bool:
    """Whether a failure that the user did not cause is behind an error."""
    while error is not None:
        if isinstance(error, OutsideFailure):
            return True
        if isinstance(error, OSError) and error.errno in _OUTSIDE:
            return True
        error = error.__cause__
    return False


def os_error_of(error: Exception) -> OSError | None:
    """The error of the file system that an error of TensorFlow reports.

    Args:
        error: with "<path>; <words of the system>" in its message.

    Returns:
        An `OSError` with `errno` and `filename`; None for other errors.
    """
    words = "|".join(map(re.escape, _CODES))
    found = re.search(rf"(?:.*(?:: |\}}\}} ))?(\S.*); ({words})\b", str(error))
    return found and OSError(_CODES[found[2]], found[2], found[1])


class Findings:
    """Collects the mistakes of several checks, so that one does not hide the next.

    Args:
        lines: mistakes that are known already.

    Attributes:
        lines: list of all mistakes so far, without repetitions.
    """

    def __init__(self, lines: Sequence[str] = ()):
        self.lines = list(lines)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Context manager that adds a mistake raised inside and suppresses it."""
        try:
            yield
        except KINDS as error:
            self.add(lines_of(error))

    def add(self, lines: Sequence[str]) -> None:
        """Adds lines that are not in the list yet."""
        self.lines += [line for line in lines if line not in self.lines]

    def raise_all(self) -> None:
        """Raises `Mistakes` if there are any."""
        if self.lines:
            raise Mistakes(self.lines)


def lines_of(error: Exception) -> tuple[str, ...]:
    """The message of an error, reduced to one line per mistake."""
    if isinstance(error, Mistakes):
        return error.lines
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return (type(error).__name__,)
    # TensorFlow puts the source code before an error that is raised during tracing.
    if lines[0] == "in user code:":
        raised = [line for line in lines if re.match(r"\w*Error: ", line)]
        lines = [line.partition(": ")[2] for line in raised[-1:]] or lines
    # Gin appends the place of an error, which helps if the message is not one of ours.
    places = [line for line in lines[1:] if line.startswith("In call to")]
    if "Received" in lines[0] or not places:
        return (lines[0],)
    return (f"{lines[0]} ({places[0].partition(' (<')[0]})",)
