"""Checkpoints of a training run: everything that its next step depends on.

Data order and augmentations are pure functions of the step (`data`, `views`), so a
checkpoint is the step, the weights and statistics of all networks, and the optimizer.
"""

import os
import pathlib
import re

import keras
import numpy as np

FILE_NAME = re.compile(r"step_(\d+)\.npz")


class Checkpoints:
    """Saves and restores a compiled `BYOL` model in a folder.

    Args:
        folder: path; created when the first checkpoint is written.
        model: built and compiled `BYOL`, whose optimizer is built too.
        keep: int. How many of the newest checkpoints stay on disk, at least 1.
    """

    def __init__(self, folder, model, keep=2):
        if not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep must be a positive int. Received: {keep!r}")
        self.folder = pathlib.Path(folder)
        self.model = model
        self.keep = keep

    def save(self, step: int) -> pathlib.Path:
        """Writes `step_<step>.npz` whole or not at all; removes the oldest ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{step:09d}.npz"
        write_variables(path, step, self._variables())
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def paths(self) -> list[pathlib.Path]:
        """Checkpoint files, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if FILE_NAME.fullmatch(p.name))

    def restore(self) -> int:
        """Loads the newest checkpoint.

        Returns:
            The optimizer step at which it was written; 0 if there is none.

        Raises:
            ValueError: if its variables are not those of the model.
        """
        paths = self.paths()
        if not paths:
            return 0
        with np.load(paths[-1], allow_pickle=False) as saved:
            variables = self._variables()
            _check_same(variables, saved, paths[-1])
            for name, variable in variables.items():
                variable.assign(saved[name])
            return int(saved["step"])

    def _variables(self) -> dict[str, keras.Variable]:
        model = self.model
        return by_position(
            {
                "online": model.online.variables,
                "target": model.target.variables,
                "predictor": model.predictor.variables,
                "optimizer": model.optimizer.variables,
            }
        )


def by_position(parts: dict[str, list]) -> dict[str, keras.Variable]:
    """The variables of some parts under names that a second process gives them too.

    Keras numbers unnamed layers through a process, so paths are no stable names.
    """
    return {
        f"{part}/{position:04d}": variable
        for part, variables in parts.items()
        for position, variable in enumerate(variables)
    }


def write_variables(
    path: pathlib.Path, step: int, variables: dict[str, keras.Variable]
) -> None:
    """Writes step and variables as `.npz`, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        arrays = {n: keras.ops.convert_to_numpy(v) for n, v in variables.items()}
        np.savez(file, step=np.int64(step), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _check_same(variables, saved, path):
    wrong = set(variables) ^ (set(saved.files) - {"step"})
    wrong |= {
        name
        for name, variable in variables.items()
        if name not in wrong and saved[name].shape != tuple(variable.shape)
    }
    if wrong:
        raise ValueError(
            "--model_dir holds a checkpoint of another model or optimizer; use a new "
            f"folder. Received: {path}, {len(wrong)} variables differ, the first is "
            f"{min(wrong)}"
        )


class SaveEachEpoch(keras.callbacks.Callback):
    """Writes a checkpoint at the end of every whole epoch.

    An epoch that another callback stops half-way leaves none: its weights belong to
    no epoch's end.

    Args:
        checkpoints: `Checkpoints`.
        epoch_ends: list of int. Optimizer step at the end of epoch 0, 1, ...
    """

    def __init__(self, checkpoints, epoch_ends):
        super().__init__()
        self.checkpoints = checkpoints
        self.epoch_ends = list(epoch_ends)

    def on_epoch_begin(self, epoch, logs=None):
        self._step = [0, *self.epoch_ends][epoch]

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1

    def on_epoch_end(self, epoch, logs=None):
        if self._step == self.epoch_ends[epoch]:
            self.checkpoints.save(self._step)
