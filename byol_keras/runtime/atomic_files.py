"""Atomic writes: write to a temporary path, then rename."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable


def write_whole(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> None:
    """Calls `write` with a temporary path, then renames the result to `path`.

    If `write` raises, nothing of it stays and `path` is as it was.

    Args:
        path: of a file or folder; an existing one is replaced.
        write: writes a file or a folder to the path it gets, which has the same suffix.
    """
    # Keras checks the suffix of the paths it writes to.
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    older = path.with_name(f"{path.stem}.older{path.suffix}")
    _remove(partial)
    try:
        write(partial)
    except BaseException:
        with contextlib.suppress(OSError):  # the disk may be what fails
            _remove(partial)
        raise
    if path.is_dir():  # a rename replaces files but no folders
        _remove(older)
        os.replace(path, older)
    os.replace(partial, path)
    _remove(older)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically."""
    write_whole(path, lambda partial: partial.write_text(text))


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
