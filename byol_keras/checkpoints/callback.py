"""Checkpoint callback: saves everything that the next training step depends on.

Data order and augmentations are pure functions of the step, so a checkpoint holds the
step, the variables of networks, optimizer and metrics, and the state of the other
callbacks. `checkpoints.files` writes and reads the files.
"""

import os
import sys
import time

import gin
import keras

from byol_keras.callbacks import RunPosition
from byol_keras.checkpoints.files import Checkpoint, CheckpointFolder
from byol_keras.checkpoints.signals import Interrupted, StopSignals
from byol_keras.checkpoints.variables import arrays_of, by_position, load_arrays
from byol_keras.runtime.argument_checks import is_positive_int
from byol_keras.runtime.run_folder import RunFolder


@gin.configurable(module="byol_keras")
class Checkpoints(keras.callbacks.Callback):
    """Saves a compiled `BYOL` and the state of the other callbacks.

    The variables are copied to host memory, and a thread writes them while training
    continues. A checkpoint is saved at the end of every epoch, after the other
    callbacks, and in between as often as `every_steps` or `every_minutes` says. An
    epoch that another callback stops half-way is not saved. After SIGTERM or SIGINT one
    more checkpoint is saved and the run ends.

    A callback has its state saved if it has the two methods that Keras layers have:
    `save_own_variables(store)` puts arrays, variables or numbers into a dict;
    `load_own_variables(store)` reads them, as arrays, after `on_epoch_begin` of the
    first epoch. State that is needed within an epoch only must be cleared in
    `on_epoch_end`.

    Args:
        model_dir: path of the run folder.
        model: `BYOL`, built and compiled, with a built optimizer.
        position: `RunPosition`, the first callback of the run.
        callbacks: the callbacks between `position` and this one.
        signals: `StopSignals`.
        writes: bool. False on a worker that only reads checkpoints.
        every_steps: optional int. Steps between two checkpoints.
        every_minutes: optional number. Minutes between two checkpoints.
        keep: int. Number of newest checkpoints to keep, at least 1.
        keep_best: optional name of a quantity in the logs at the end of an epoch, as
            "knn/top1_k20". The checkpoint with its best value is kept too: the lowest
            value if the name ends in "loss", otherwise the highest.

    Raises:
        ValueError: if a value is out of range.
    """

    async_safe = False

    def __init__(
        self,
        model_dir: str | os.PathLike,
        model: keras.Model,
        position: RunPosition,
        callbacks=(),
        signals: StopSignals | None = None,
        writes: bool = True,
        every_steps: int | None = None,
        every_minutes: float | None = 10.0,
        keep: int = 2,
        keep_best: str | None = None,
    ):
        super().__init__()
        _check_intervals(every_steps, every_minutes, keep_best)
        self.folder = CheckpointFolder(RunFolder(model_dir).checkpoints, keep)
        self.position = position
        self.signals = signals or StopSignals()
        self.writes = writes
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keep_best = keep_best
        self.about = {}
        self._callbacks = _named(callbacks)
        self._found = None
        self.set_model(model)

    def restore(self, found: Checkpoint) -> None:
        """Loads a checkpoint into model, optimizer and position.

        Metrics and callbacks are loaded later, since `fit` resets them at the start of
        its first epoch.

        Raises:
            ValueError: if the checkpoint has other variables than the model.
        """
        load_arrays(self.model, found.arrays, self.folder.path)
        self.position.move_to(found.step)
        self._found = found

    def starting_anew(self, found: Checkpoint) -> list[str]:
        """Names of callbacks with a state that a checkpoint does not contain."""
        return [name for name in self._callbacks if not _part(found, name)]

    def on_train_begin(self, logs=None):
        if self.writes:
            self.folder.clean(self.position.step)
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        found, self._found = self._found, None
        if found is None:
            return
        metrics = by_position({"metrics": self.model.metrics_variables})
        for name, variable in metrics.items():
            variable.assign(found.arrays[name])
        for name, callback in self._callbacks.items():
            store = _part(found, name)
            if store:
                callback.load_own_variables(store)

    def on_train_batch_end(self, batch, logs=None):
        # The checkpoint at the end of an epoch is saved after the other callbacks.
        if self.position.at_epoch_end:
            return
        if self.signals.received or self._is_due():
            self._save()
        self._end_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        if not self.position.at_epoch_end:
            return
        # Metrics start anew with each epoch, also in a process that resumes here.
        self.model.reset_metrics()
        self._save(self._score(epoch, logs or {}))
        self._end_if_asked()

    def on_train_end(self, logs=None):
        self.folder.wait()

    def _is_due(self):
        if self.every_steps and self.position.step % self.every_steps == 0:
            return True
        waited = time.monotonic() - self._saved_at
        return self.every_minutes is not None and waited >= 60 * self.every_minutes

    def _score(self, epoch, logs):
        if self.keep_best in logs:
            sign = -1.0 if self.keep_best.endswith("loss") else 1.0
            return self.keep_best, sign * float(logs[self.keep_best])
        if self.keep_best is not None and epoch == 0:
            print(
                f"no best checkpoint yet: {self.keep_best!r} is not in the logs of "
                f"epoch 1 ({', '.join(sorted(logs))})",
                file=sys.stderr,
            )
        return None

    def _save(self, score=None):
        if not self.writes:
            return
        arrays = arrays_of(self.model)
        for name, callback in self._callbacks.items():
            store = {}
            callback.save_own_variables(store)
            for key, value in store.items():
                arrays[f"callbacks/{name}/{key}"] = keras.ops.convert_to_numpy(value)
        self.folder.save(self.position.step, arrays, self.about, score)
        self._saved_at = time.monotonic()

    def _end_if_asked(self):
        # The other workers train until the one that writes has left.
        if self.signals.received and self.writes:
            self.folder.wait()
            raise Interrupted(self.position.step)


def has_state(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has state for checkpoints."""
    return hasattr(callback, "save_own_variables")


def _named(callbacks):
    """Callbacks with a state by class name; repeated names are numbered."""
    found = {}
    for callback in filter(has_state, callbacks):
        name, number = type(callback).__name__, 2
        while name in found:
            name, number = f"{type(callback).__name__}_{number}", number + 1
        found[name] = callback
    return found


def _part(found, name):
    """The state of a callback in a checkpoint; empty if it has none."""
    prefix = f"callbacks/{name}/"
    return {
        key.removeprefix(prefix): array
        for key, array in found.arrays.items()
        if key.startswith(prefix)
    }


def _check_intervals(every_steps, every_minutes, keep_best):
    if every_steps is not None and not is_positive_int(every_steps):
        raise ValueError(
            f"every_steps must be None or a positive int. Received: {every_steps!r}"
        )
    if every_minutes is not None and not (
        isinstance(every_minutes, int | float) and every_minutes > 0
    ):
        raise ValueError(
            "every_minutes must be None or a positive number. "
            f"Received: {every_minutes!r}"
        )
    if keep_best is not None and not isinstance(keep_best, str):
        raise ValueError(f"keep_best must be None or a name. Received: {keep_best!r}")
