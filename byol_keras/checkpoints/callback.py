"""Checkpoints of a training run: everything that its next step depends on.

Data order and augmentations are pure functions of the step (`data`, `views`), so a
checkpoint is the step, the variables of all networks, optimizer and metrics, and what
other callbacks keep. `checkpoint_folder` has the files.
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
    """Saves a compiled `BYOL` and the callbacks beside it; only the report comes later.

    A checkpoint is a copy in the host's memory, which a thread writes while training
    goes on. There is one at every end of an epoch, after what other callbacks do there,
    and between these as often as `every_steps` or `every_minutes` says. An epoch that
    another callback stops half-way leaves none. A signal is answered by one more.

    Another callback takes part by two methods, those of Keras's layers:
    `save_own_variables(store)` puts arrays, variables or numbers into a dict, and
    `load_own_variables(store)` reads them, as arrays, after `on_epoch_begin` of the
    first epoch. What it keeps for one epoch only, it clears in `on_epoch_end`.

    Args:
        model_dir: path of the run folder.
        model: built and compiled `BYOL`, whose optimizer is built too.
        position: `RunPosition`, the first of the callbacks.
        callbacks: the callbacks between that one and this one.
        signals: `StopSignals`.
        writes: bool. False on a worker that only reads.
        every_steps: optional int. Steps between two checkpoints.
        every_minutes: optional number. Minutes between two checkpoints.
        keep: int. How many of the newest stay on disk, at least 1.
        keep_best: optional name of a quantity that is logged at ends of epochs, as
            "knn/top1_k20". The checkpoint of its best value stays as well: the lowest
            one where the name ends in "loss", else the highest.

    Raises:
        ValueError: for a value out of range.
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
        """Brings model, optimizer and position to where a checkpoint was written.

        Metrics and callbacks follow when `fit` has reset them for its first epoch.

        Raises:
            ValueError: if its variables are not those of the model.
        """
        load_arrays(self.model, found.arrays, self.folder.path)
        self.position.move_to(found.step)
        self._found = found

    def starting_anew(self, found: Checkpoint) -> list[str]:
        """Callbacks with a state, of which a checkpoint holds nothing."""
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
        # What other callbacks do at the end of an epoch belongs to its checkpoint.
        if self.position.at_epoch_end:
            return
        if self.signals.received or self._is_due():
            self._save()
        self._end_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        if not self.position.at_epoch_end:
            return
        # The next epoch starts without them, in this process and in another.
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
                f"no best checkpoint yet: epoch 1 has not logged {self.keep_best!r}, "
                f"but {', '.join(sorted(logs))}",
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
        # Whoever does not write goes on until the one who does has left.
        if self.signals.received and self.writes:
            self.folder.wait()
            raise Interrupted(self.position.step)


def has_state(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback takes part in checkpoints."""
    return hasattr(callback, "save_own_variables")


def _named(callbacks):
    """Callbacks with a state by the name of their class, numbered where it recurs."""
    found = {}
    for callback in filter(has_state, callbacks):
        name, number = type(callback).__name__, 2
        while name in found:
            name, number = f"{type(callback).__name__}_{number}", number + 1
        found[name] = callback
    return found


def _part(found, name):
    """What a checkpoint holds of a callback."""
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
