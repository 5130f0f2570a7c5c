"""Checkpoint files: written atomically, checksums verified on load.

A checkpoint is one `.npz` file of arrays and one JSON text. It holds no pickled
objects, so reading it runs no code from the file.
"""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from byol_keras.runtime.argument_checks import check_positive_ints

_NAME = re.compile(r"(best_)?step_(\d+)\.npz")
_ABOUT = "about.json"


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        step: int. Step of the run at which it was saved.
        arrays: name -> array.
        about: the other values that `CheckpointFolder.save` received.
        damaged: one line for each newer checkpoint that could not be read.
    """

    step: int
    arrays: dict[str, np.ndarray]
    about: dict
    damaged: list[str]


class CheckpointFolder:
    """The checkpoints of a run: the newest ones and the best one.

    A background thread writes them, one at a time. Each is written to a temporary file,
    flushed to disk and then renamed.

    Args:
        path: of the folder; created with the first checkpoint.
        keep: int. Number of newest checkpoints to keep, at least 1.

    Raises:
        ValueError: if `keep` is not a positive int.
    """

    def __init__(self, path: str | os.PathLike, keep: int = 2):
        check_positive_ints(keep=keep)
        self.path = pathlib.Path(path)
        self.keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._writing = None

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        about: Mapping,
        score: tuple[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint, after waiting for the previous one.

        Args:
            step: int. Step of the run.
            arrays: name -> array; they must not change any more.
            about: other values, JSON types.
            score: optional name and value. The checkpoint with the highest value under
                that name is kept as `best_step_*.npz`.

        Raises:
            OSError: if the previous checkpoint could not be written.
        """
        self.wait()
        about = {**about, "step": step, "score": score}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        arrays = {**arrays, _ABOUT: text}
        self._writing = self._thread.submit(self._write, step, arrays, score)

    def wait(self) -> None:
        """Waits until the checkpoint is written; raises the error if that failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits until the checkpoint is written and ends the thread; never raises."""
        self._thread.shutdown(wait=True)

    def is_empty(self) -> bool:
        """Whether there is no checkpoint, damaged or not."""
        return not self._paths()

    def newest(self) -> Checkpoint | None:
        """Reads the newest undamaged checkpoint; None if the folder has none.

        Raises:
            ValueError: if all checkpoints are damaged.
        """
        damaged = []
        for path in reversed(self._paths()):
            try:
                return read_checkpoint(path)._replace(damaged=damaged)
            except Exception as error:  # damaged files raise many kinds
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                damaged.append(f"{path} cannot be read ({reason})")
        if damaged:
            raise ValueError(
                f"{self.path} must hold an undamaged checkpoint; nothing has been "
                f"deleted, use a new folder to start again. Received: {damaged[0]}"
                + (f", and {len(damaged) - 1} others" if len(damaged) > 1 else "")
            )
        return None

    def clean(self, step: int) -> None:
        """Removes temporary files and renames newer checkpoints to `*.aside`.

        Newer checkpoints are damaged, otherwise the run would resume from them. They
        are kept for inspection but do not count among the newest `keep`.

        Args:
            step: int. Step of the checkpoint that the run resumes from.
        """
        for path in self.path.glob("*.tmp"):
            path.unlink()
        for path in self._paths():
            if _step_of(path) > step:
                os.replace(path, path.with_name(path.name + ".aside"))

    def _write(self, step, arrays, score):
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"step_{step:09d}.npz"
        write_arrays(path, arrays)
        if score is not None and math.isfinite(score[1]):
            self._keep_if_best(path, *score)
        _fsync(self.path)
        newest = [path for path in self._paths() if not path.name.startswith("best")]
        for old in newest[: -self.keep]:
            old.unlink()

    def _keep_if_best(self, path, name, value):
        older = list(self.path.glob("best_step_*.npz"))
        if value < max((_score_of(other, name) for other in older), default=-math.inf):
            return
        best = path.with_name(f"best_{path.name}")
        temporary = best.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # not every file system has hard links
            shutil.copyfile(path, temporary)
        os.replace(temporary, best)
        for other in older:
            if other != best:
                other.unlink()

    def _paths(self):
        """Checkpoint files, oldest first."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (_step_of(path), path.name))


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz` file atomically and flushes it to disk."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # On a full disk the partial file would take the space of the next one.
        temporary.unlink(missing_ok=True)
        raise


def _step_of(path):
    return int(_NAME.fullmatch(path.name).group(2))


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint file and verifies its checksums.

    Raises:
        Exception: of any kind, if the file is damaged or is no checkpoint.
    """
    with zipfile.ZipFile(path) as archive:
        wrong = archive.testzip()
    if wrong is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
    with np.load(path, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    about = json.loads(arrays.pop(_ABOUT).tobytes())
    return Checkpoint(about["step"], arrays, about, damaged=[])


def _score_of(path, name):
    """Score of a checkpoint; minus infinity if it has none of that name."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            found = json.loads(saved[_ABOUT].tobytes())["score"]
    except Exception:  # damaged files raise many kinds
        return -math.inf
    return found[1] if found[0] == name else -math.inf


def _fsync(folder):
    """Flushes a folder to disk, if the file system supports that."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
