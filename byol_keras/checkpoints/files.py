"""The files of checkpoints: written whole, verified before they are believed.

A checkpoint is one `.npz` of arrays and of one JSON text, without pickled objects:
reading it runs nothing that the file contains.
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
    """What a checkpoint holds.

    Attributes:
        step: int. Step of the run at which it was written.
        arrays: name -> array.
        about: what else was handed to `CheckpointFolder.save`.
        damaged: lines on newer checkpoints that could not be read.
    """

    step: int
    arrays: dict[str, np.ndarray]
    about: dict
    damaged: list[str]


class CheckpointFolder:
    """The checkpoints of a run: the newest ones and the best one.

    They are written by one thread in the background, one at a time. Each is complete
    under another name, and on the disk, before it gets its own.

    Args:
        path: of the folder; created when the first checkpoint is written.
        keep: int. How many of the newest stay, at least 1.

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
        """Starts to write a checkpoint; first waits for the one before.

        Args:
            step: int. Step of the run.
            arrays: name -> array, which nobody changes from now on.
            about: anything else, as JSON knows it.
            score: optional name and value. The checkpoint of the highest value of that
                name stays as `best_step_*.npz`.

        Raises:
            OSError: if the one before could not be written.
        """
        self.wait()
        about = {**about, "step": step, "score": score}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        arrays = {**arrays, _ABOUT: text}
        self._writing = self._thread.submit(self._write, step, arrays, score)

    def wait(self) -> None:
        """Waits until nothing is being written; raises what writing has raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits until nothing is being written; raises nothing."""
        self._thread.shutdown(wait=True)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if there is no checkpoint.

        Raises:
            ValueError: if there are checkpoints, all of them damaged.
        """
        damaged = []
        for path in reversed(self._paths()):
            try:
                return read_checkpoint(path)._replace(damaged=damaged)
            except Exception as error:  # the readers raise whatever a file makes them
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                damaged.append(f"{path} cannot be read ({reason})")
        if damaged:
            raise ValueError(
                f"{self.path} must hold a checkpoint that is whole; nothing has been "
                f"deleted, use a new folder to start anew. Received: {damaged[0]}"
                + (f", and {len(damaged) - 1} others" if len(damaged) > 1 else "")
            )
        return None

    def clean(self, step: int) -> None:
        """Removes what an interrupted write has left, and sets newer files aside.

        They are damaged, or they would have been read. Under the name `*.aside` they
        keep their contents, but take no place of a whole one.

        Args:
            step: int. Of the checkpoint at which the run goes on.
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
        """Files of checkpoints, oldest first."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (_step_of(path), path.name))


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz`, whole and on the disk, or not at all."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # The room that a part of a file takes is what a full disk lacks.
        temporary.unlink(missing_ok=True)
        raise


def _step_of(path):
    return int(_NAME.fullmatch(path.name).group(2))


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """The contents of a file whose checksums are right.

    Raises:
        Exception: of whatever kind, if they are not, or it is no checkpoint.
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
    """Score of a checkpoint; the lowest possible one if it has none of that name."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            found = json.loads(saved[_ABOUT].tobytes())["score"]
    except Exception:  # the readers raise whatever a damaged file makes them
        return -math.inf
    return found[1] if found[0] == name else -math.inf


def _fsync(folder):
    """Makes the names in a folder last, where the file system knows how to."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
