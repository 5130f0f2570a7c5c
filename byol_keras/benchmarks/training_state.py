"""Saves and restores the state of a benchmark's training."""

import hashlib
import os
import pathlib

import keras
import numpy as np

from byol_keras.checkpoints.files import write_arrays
from byol_keras.checkpoints.variables import by_position, copies_of
from byol_keras.export.digest import backbone_digest
from byol_keras.runtime.run_folder import check_local


class TrainingState:
    """One file with the step and all variables of a model and its optimizer.

    Args:
        path: of the `.npz` file. Its folder is created at the first save.
        model: compiled `keras.Model`. It and its optimizer are built.
    """

    def __init__(self, path: str | os.PathLike, model: keras.Model):
        self.path = pathlib.Path(path)
        self.model = model

    def save(self, step: int) -> None:
        """Writes the state atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"step": np.int64(step), **copies_of(self._variables())}
        write_arrays(self.path, arrays)

    def restore(self) -> int:
        """Loads the state, if there is one.

        Returns:
            The step at which it was saved; 0 if there is no file.

        Raises:
            ValueError: if the file has other variables than the model.
        """
        if not self.path.is_file():
            return 0
        with np.load(self.path, allow_pickle=False) as saved:
            variables = self._variables()
            shapes = {name: saved[name].shape for name in saved.files if name != "step"}
            if shapes != {name: tuple(v.shape) for name, v in variables.items()}:
                raise ValueError(
                    "output_dir must hold no training state, or one of the same model "
                    f"and optimizer. Received: {self.path}, of another model"
                )
            for name, variable in variables.items():
                variable.assign(saved[name])
            return int(saved["step"])

    def _variables(self):
        optimizer = self.model.optimizer.variables
        return by_position({"model": self.model.variables, "optimizer": optimizer})


def resumable_folder(
    output_dir: str | os.PathLike | None, backbone: keras.Model, data, *settings
) -> pathlib.Path | None:
    """The folder of a training: one for each backbone, data and settings.

    Runs of the trained backbone, the baselines and several seeds share `output_dir`.
    Two runs get the same folder only if one can resume the other.

    Args:
        output_dir: the benchmark's folder, or None.
        backbone: identified by its weights and configuration.
        data: of training, identified by its `digest()`.
        *settings: everything else that determines the run, identified by its `repr`.

    Returns:
        A path in `output_dir`; None if that is None.
    """
    if not output_dir:
        return None
    check_local("output_dir", output_dir)
    parts = (backbone_digest(backbone), data.digest(), *settings)
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return pathlib.Path(output_dir) / f"run-{name}"


class SaveState(keras.callbacks.Callback):
    """Saves a `TrainingState` every `every_steps` steps and at the end.

    Args:
        state: to save.
        first_step: int. The step at which this process starts.
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
