"""Callbacks of a BYOL run: the target's moving average, epochs, logs, progress."""

import json
import math
import pathlib
import time

import gin
import keras
import numpy as np
import tensorflow as tf
from rich import progress


def target_tau(step, total_steps, base_tau):
    """Decay rate of the target at an optimizer step: a cosine from base_tau to 1.

    Args:
        step: int, float or tensor, 0..total_steps. 0 at the first update.
        total_steps: int. Optimizer steps of the whole run.
        base_tau: float in 0..1.

    Returns:
        float64 scalar tensor, or array-like of the shape of `step`.

    Source: arXiv 2006.07733 §3.3.
    """
    progress_of_run = tf.cast(step, tf.float64) / total_steps
    return 1.0 - (1.0 - base_tau) * (tf.cos(math.pi * progress_of_run) + 1.0) / 2.0


@gin.register
class TargetEMA(keras.callbacks.Callback):
    """Moves the target network once after every optimizer step.

    Adds `tau` to the logs, as a tensor: nothing here waits for the device.

    Args:
        base_tau: float in 0..1. tau of the first step; it grows to 1 by a cosine.
        total_steps: int. Optimizer steps of the whole run.
        reference_batch_size: optional int. The batch size for which `base_tau` was
            chosen; tau becomes tau^(batch_size / reference_batch_size).
        batch_size: int, needed with `reference_batch_size`: images per step.

    Raises:
        ValueError: for values out of range and, at the start of training, for
            `steps_per_execution` other than 1: callbacks run once per execution, so
            the target would miss steps.

    Source: arXiv 2006.07733 eq. 1 and §3.3; scaling: arXiv 2307.13813.
    """

    # Calls that Keras makes from another thread would race with the next step.
    async_safe = False

    def __init__(
        self,
        base_tau=0.996,
        total_steps=None,
        reference_batch_size=None,
        batch_size=None,
    ):
        super().__init__()
        _check_tau_arguments(base_tau, total_steps, reference_batch_size, batch_size)
        self.base_tau = base_tau
        self.total_steps = total_steps
        self.exponent = (
            1.0 if reference_batch_size is None else batch_size / reference_batch_size
        )
        self._tau = None

    def tau(self, step):
        """tau at an optimizer step, float64, batch-size scaling included."""
        return target_tau(step, self.total_steps, self.base_tau) ** self.exponent

    def on_train_begin(self, logs=None):
        if self.model.steps_per_execution != 1:
            raise ValueError(
                "steps_per_execution must be 1 with TargetEMA, which acts after every "
                f"step. Received: {self.model.steps_per_execution}"
            )
        self._update = tf.function(self._update_target)

    def _update_target(self):
        # The optimizer has already counted the step that this update belongs to.
        step = tf.cast(self.model.optimizer.iterations.value, tf.float64) - 1.0
        tau = self.tau(tf.maximum(step, 0.0))
        self.model.update_target(tau)
        return tau

    def on_train_batch_end(self, batch, logs=None):
        with self.model.distribute_strategy.scope():
            self._tau = self._update()
        if logs is not None:
            logs["tau"] = self._tau

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._tau is not None:
            logs["tau"] = float(self._tau)


def _check_tau_arguments(base_tau, total_steps, reference_batch_size, batch_size):
    if not 0.0 <= base_tau <= 1.0:
        raise ValueError(f"base_tau must be in 0..1. Received: {base_tau!r}")
    if not isinstance(total_steps, int) or total_steps < 1:
        raise ValueError(
            f"total_steps must be a positive int. Received: {total_steps!r}"
        )
    if reference_batch_size is not None and not (
        reference_batch_size > 0 and batch_size
    ):
        raise ValueError(
            "reference_batch_size must be positive and needs batch_size. Received: "
            f"reference_batch_size={reference_batch_size!r}, batch_size={batch_size!r}"
        )


class EpochEnds(keras.callbacks.Callback):
    """Ends each Keras epoch at a step that the run prescribes.

    One pass over the data is rarely a whole number of batches, so epochs differ by a
    step; `fit` knows only one number of steps per epoch. It is called with an upper
    bound, and this callback, first in the list, ends the epoch at the right step.

    Args:
        epoch_ends: list of int. Optimizer step at which epoch 0, 1, ... ends.
        first_step: int. Optimizer step at which this process starts.
    """

    async_safe = False

    def __init__(self, epoch_ends, first_step=0):
        super().__init__()
        self.epoch_ends = list(epoch_ends)
        self.step = first_step
        self._ended = False

    @property
    def longest_epoch(self):
        """int. Steps of the longest epoch: what `fit` gets as steps_per_epoch."""
        return int(np.max(np.diff([0, *self.epoch_ends])))

    def on_epoch_begin(self, epoch, logs=None):
        self._end = self.epoch_ends[epoch]

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step >= self._end and not self.model.stop_training:
            self.model.stop_training = self._ended = True

    def on_epoch_end(self, epoch, logs=None):
        if self._ended and epoch + 1 < len(self.epoch_ends):
            self.model.stop_training = False
        self._ended = False


class MetricsLog(keras.callbacks.Callback):
    """Writes the logs of every n-th step to `metrics.jsonl` and to TensorBoard.

    Logs stay on the device in between. A resumed run appends; lines of steps that
    it repeats are dropped first.

    Args:
        model_dir: path of the run folder.
        first_step: int. Optimizer step at which this process starts.
        batch_size: int. Images per step, for `images_per_second`.
        every_steps: int. Steps between two lines.
    """

    async_safe = False

    def __init__(self, model_dir, first_step, batch_size, every_steps):
        super().__init__()
        self.path = pathlib.Path(model_dir) / "metrics.jsonl"
        self.log_dir = pathlib.Path(model_dir) / "logs"
        self.step = self._last_step = first_step
        self.batch_size = batch_size
        self.every_steps = every_steps

    def on_train_begin(self, logs=None):
        keep = [
            line for line in _json_lines(self.path) if line.get("step", 0) <= self.step
        ]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in keep))
        self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._last_time, self._last_step = time.perf_counter(), self.step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.every_steps == 0:
            self._write(logs)

    def on_epoch_end(self, epoch, logs=None):
        extra = {
            name: float(value)
            for name, value in (logs or {}).items()
            if "/" in name
        }
        if extra:
            self._write_line({"step": self.step, "epoch": epoch + 1, **extra})

    def _write(self, logs):
        # Reading the values waits for the device, so the clock is read after it.
        values = {name: float(value) for name, value in (logs or {}).items()}
        now = time.perf_counter()
        images = (self.step - self._last_step) * self.batch_size
        values["images_per_second"] = images / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, self.step
        self._write_line({"step": self.step, "epoch": self._epoch + 1, **values})

    def _write_line(self, line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        with self._writer.as_default():
            for name, value in line.items():
                if name != "step":
                    tf.summary.write(name, value, line["step"], _scalar_metadata())

    def on_train_end(self, logs=None):
        self._writer.close()


def _scalar_metadata():
    """What `tf.summary.scalar` writes, which needs the package tensorboard itself."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    return metadata


def _json_lines(path):
    """Parsed lines of a file; a last line that a crash cut short is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


class Progress(keras.callbacks.Callback):
    """Shows steps, images per second, time left and the loss, in one line.

    Args:
        total_steps: int. Optimizer steps of the whole run.
        first_step: int. Optimizer step at which this process starts.
        batch_size: int. Images per step.
        every_steps: int. Steps between two readings of the loss.
        epochs: int. Epochs of the whole run.
    """

    async_safe = False

    def __init__(self, total_steps, first_step, batch_size, every_steps, epochs):
        super().__init__()
        self.total_steps = total_steps
        self.first_step = self.step = first_step
        self.batch_size = batch_size
        self.every_steps = every_steps
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[status]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "epoch", total=self.total_steps, completed=self.step, status=""
        )
        self._bar.start()
        self._start = None

    def on_epoch_begin(self, epoch, logs=None):
        self._bar.update(self._task, description=f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # The first step of a process traces the graph; it says nothing of the speed.
        self._start = self._start or (self.step, time.perf_counter())
        if self.step % self.every_steps == 0:
            self._bar.update(self._task, status=self._status(logs))
        self._bar.update(self._task, completed=self.step)

    def _status(self, logs):
        loss = f"loss {float(logs['loss']):.3f}"
        step, start = self._start
        images = (self.step - step) * self.batch_size
        if not images:
            return loss
        return f"{loss}  {images / (time.perf_counter() - start):.0f} images/s"

    def on_epoch_end(self, epoch, logs=None):
        values = "  ".join(
            f"{name} {float(value):.4g}" for name, value in (logs or {}).items()
        )
        self._bar.console.print(f"epoch {epoch + 1}/{self.epochs}  {values}")

    def on_train_end(self, logs=None):
        self._bar.stop()
