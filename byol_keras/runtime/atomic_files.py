"""Writes files and folders whole or not at all: under another name first."""

import os
import pathlib
import shutil
from collections.abc import Callable


def write_whole(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> None:
    """Calls `write` with a temporary path, then moves the result to `path`.

    The temporary path has the suffix of `path`; what stands at `path` is replaced.
    """
    # Keras insists on the suffix, so the mark goes in front of it.
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    older = path.with_name(f"{path.stem}.older{path.suffix}")
    _remove(partial)
    write(partial)
    if path.is_dir():  # unlike a file, a folder cannot be replaced in one step
        _remove(older)
        os.replace(path, older)
    os.replace(partial, path)
    _remove(older)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file of text whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text))


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
