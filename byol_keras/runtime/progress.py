"""Progress bar: one line in the terminal for everything that takes long."""

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from rich import progress

from byol_keras.runtime.console import plain_console


class ProgressBar:
    """A line with a description, a count, a status, the time spent and the time left.

    Used as a context manager, or through `start` and `stop`.

    Args:
        description: str. Name of the work.
        total: int. Number of its steps.
        completed: int. Steps that an earlier process has done. Defaults to 0.
        stderr: bool. Where the line is written. Defaults to False, standard output.
        transient: bool. Whether the line is removed at the end. Defaults to False.
    """

    def __init__(self, description, total, completed=0, stderr=False, transient=False):
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[status]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=plain_console(stderr=stderr),
            transient=transient,
        )
        self._task = self._bar.add_task(
            description, total=total, completed=completed, status=""
        )

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        """Shows the line."""
        self._bar.start()

    def stop(self) -> None:
        """Ends the line. Another bar can start only after that."""
        self._bar.stop()

    def print(self, line: str) -> None:
        """Prints a line above the bar, unwrapped, so that it is one line in a file."""
        self._bar.console.print(line, soft_wrap=True)

    def advance(self, steps: int = 1) -> None:
        """Counts further steps."""
        self._bar.advance(self._task, steps)

    def update(
        self,
        completed: int | None = None,
        description: str | None = None,
        status: str | None = None,
    ) -> None:
        """Changes the count and the texts that are given, and keeps the others."""
        texts = {"description": description, "status": status}
        given = {name: text for name, text in texts.items() if text is not None}
        self._bar.update(self._task, completed=completed, **given)


def tracked(
    items: Iterable, description: str, total: int | None = None, transient: bool = False
) -> Iterator[Any]:
    """Yields the items while a bar counts them.

    Args:
        items: anything to iterate over.
        description: str. Name of the work.
        total: int. Number of items; None asks `items` for it.
        transient: bool. Whether the line is removed at the end. Defaults to False.
    """
    total = total or operator.length_hint(items) or None
    with ProgressBar(description, total, transient=transient) as bar:
        for item in items:
            yield item
            bar.advance()
