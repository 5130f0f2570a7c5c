"""Saves what the next step of a benchmark's training depends on, and restores it."""

import hashlib
import os
import pathlib

import keras
import numpy as np

from byol_keras.checkpoints.files import write_arrays
from byol_keras.checkpoints.variables import by_position, copies_of
from byol_keras.export.digest import backbone_digest


class TrainingState:
    """All variables of a model and of its optimizer, and the step, in one file.

    Args:
        path: of the `.npz` file; its folder is created when it is first written.
        model: compiled `keras.Model`, which is built, as is its optimizer.
    """

    def __init__(self, path: str | os.PathLike, model: keras.Model):
        self.path = pathlib.Path(path)
        self.model = model

    def save(self, step: int) -> None:
        """Writes the state whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"step": np.int64(step), **copies_of(self._variables())}
        write_arrays(self.path, arrays)

    def restore(self) -> int:
        """Loads the state, if there is one.

        Returns:
            The step at which it was written; 0 if there is none.

        Raises:
            ValueError: if its variables are not those of the model.
        """
        if not self.path.is_file():
            return 0
        with np.load(self.path, allow_pickle=False) as saved:
            variables = self._variables()
            shapes = {name: saved[name].shape for name in saved.files if name != "step"}
            if shapes != {name: tuple(v.shape) for name, v in variables.items()}:
                raise ValueError(
                    "output_dir must hold the state of the same model and optimizer, "
                    f"or none. Received: {self.path}, of another"
                )
            for name, variable in variables.items():
                variable.assign(saved[name])
            return int(saved["step"])

    def _variables(self):
        optimizer = self.model.optimizer.variables
        return by_position({"model": self.model.variables, "optimizer": optimizer})


def run_folder(
    output_dir: str | os.PathLike | None, backbone: keras.Model, data, *settings
) -> pathlib.Path | None:
    """A folder that two runs share only if one may continue what the other has begun.

    Besides the trained backbone, baselines and other seeds run in the same folder.

    Args:
        output_dir: the benchmark's folder, or None.
        backbone: whose weights and configuration count.
        data: of training; its `digest()` counts.
        *settings: all else that the run depends on; their `repr` counts.
    """
    if not output_dir:
        return None
    parts = (backbone_digest(backbone), data.digest(), *settings)
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return pathlib.Path(output_dir) / f"run-{name}"


class SaveState(keras.callbacks.Callback):
    """Saves a `TrainingState` every n-th step and at the end.

    Args:
        state: to save.
        first_step: int. Step at which this process starts.
        every_steps: int.
    """

    # Calls that Keras makes from another thread would race with the next step.
    async_safe = False

    def __init__(self, state: TrainingState, first_step: int, every_steps: int):
        super().__init__()
        self.state = state
        self.step = first_step
        self.every_steps = every_steps

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.every_steps == 0:
            self.state.save(self.step)

    def on_train_end(self, logs=None):
        if self.step % self.every_steps:
            self.state.save(self.step)
