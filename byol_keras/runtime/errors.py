"""A user's mistakes: collected, so that all are told at once, each in one line."""

import contextlib
import re
from collections.abc import Iterator, Sequence

# What set-up raises for what it was given: our own checks raise ValueError, a value of
# the wrong type ends in a TypeError somewhere, and gin raises RuntimeError for a
# binding that is missing.
KINDS = (ValueError, TypeError, RuntimeError, OSError)


class Mistakes(ValueError):
    """Several mistakes.

    Args:
        lines: one for each: "argument must be rule. Received: value".
    """

    def __init__(self, lines: Sequence[str]):
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class Findings:
    """Collects mistakes of several checks, none of which keeps the next from running.

    `lines` holds what has been found so far, each line once.
    """

    def __init__(self, lines: Sequence[str] = ()):
        self.lines = list(lines)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Takes note of a mistake that ends the block, which then is left."""
        try:
            yield
        except KINDS as error:
            self.add(lines_of(error))

    def add(self, lines: Sequence[str]) -> None:
        """Adds lines that are not there yet."""
        self.lines += [line for line in lines if line not in self.lines]

    def tell(self) -> None:
        """Raises `Mistakes` if there are any."""
        if self.lines:
            raise Mistakes(self.lines)


def lines_of(error: Exception) -> tuple[str, ...]:
    """What an error says: a line for each mistake."""
    if isinstance(error, Mistakes):
        return error.lines
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return (type(error).__name__,)
    # Before what is raised while a graph is traced, TensorFlow lists the source.
    if lines[0] == "in user code:":
        raised = [line for line in lines if re.match(r"\w*Error: ", line)]
        lines = [line.partition(": ")[2] for line in raised[-1:]] or lines
    # Gin adds where it met an error, which helps if it was not raised by us.
    places = [line for line in lines[1:] if line.startswith("In call to")]
    if "Received" in lines[0] or not places:
        return (lines[0],)
    return (f"{lines[0]} ({places[0].partition(' (<')[0]})",)
