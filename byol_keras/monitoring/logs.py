"""Training logs: `metrics.jsonl`, TensorBoard, progress bar."""

import contextlib
import json
import os
import time

import keras
import tensorflow as tf

from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.progress import ProgressBar
from byol_keras.runtime.run_folder import RunFolder


class TensorLogs(keras.callbacks.CallbackList):
    """A list of callbacks for `fit` that receive the logs of a step as tensors.

    Keras itself converts the logs to floats after every step. The conversion waits for
    the accelerator, which then waits for the host. Here a callback waits only for the
    values that it reads.

    Args:
        callbacks: list of `keras.callbacks.Callback`.
        model: the model to train.
        epochs: int. Epochs of the run.
        steps: int. Steps per epoch.
    """

    def __init__(self, callbacks, model, epochs, steps):
        params = {"epochs": epochs, "steps": steps, "verbose": 0}
        super().__init__(callbacks, add_history=True, model=model, **params)

    def on_train_batch_end(self, batch, logs=None):
        logs = dict(logs or {})  # what callbacks add is not the model's
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs=logs)


class MetricsLog(keras.callbacks.Callback):
    """Logs every `every_steps` steps to `metrics.jsonl` and to TensorBoard.

    A resumed run appends to both. The lines of steps that it repeats are removed from
    `metrics.jsonl`; TensorBoard removes them by itself, since the new event file opens
    with a start event that names the step.

    Args:
        model_dir: path of the run folder.
        position: `RunPosition`, earlier in the list of callbacks.
        batch_size: int. Images per step, for `images_per_second`.
        every_steps: int. Steps between two lines.
    """

    async_safe = False

    def __init__(self, model_dir, position, batch_size, every_steps):
        super().__init__()
        folder = RunFolder(model_dir)
        self.path, self.log_dir = folder.metrics, folder.logs
        self.position = position
        self.batch_size = batch_size
        self.every_steps = every_steps

    def on_train_begin(self, logs=None):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_lines(self.path, after_step=self.position.step)
        self._writer = _event_writer(self.log_dir, first_step=self.position.step + 1)

    def on_epoch_begin(self, epoch, logs=None):
        self._last_time, self._last_step = time.perf_counter(), self.position.step

    def on_train_batch_end(self, batch, logs=None):
        if self.position.step % self.every_steps == 0:
            self._write(logs)

    def on_epoch_end(self, epoch, logs=None):
        extra = {
            name: float(value) for name, value in (logs or {}).items() if "/" in name
        }
        if extra:
            self._write_line(extra)

    def _write(self, logs):
        # Reading a value waits for the device, so the clock is read after it.
        values = {name: float(value) for name, value in (logs or {}).items()}
        now, step = time.perf_counter(), self.position.step
        images = (step - self._last_step) * self.batch_size
        values["images_per_second"] = images / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, step
        self._write_line(values)

    def _write_line(self, values):
        """Writes a line to the disk, so that it exists before the next checkpoint."""
        line = {"step": self.position.step, "epoch": self.position.epoch + 1, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scalars = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name != "step"
        ]
        summary = tf.compat.v1.Summary(value=scalars)
        self._writer.add_summary(summary, line["step"])
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def _event_writer(folder, first_step):
    """A writer of a new event file, at whose start TensorBoard drops later steps."""
    # Only this writer knows session logs, and its constructor refuses eager mode.
    with tf.Graph().as_default():
        # Files of the same second need different names, in the order of time.
        writer = tf.compat.v1.summary.FileWriter(
            str(folder), filename_suffix=f".{time.time_ns()}"
        )
    start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    writer.add_session_log(start, first_step)
    writer.flush()
    return writer


def _drop_lines(path, after_step):
    """Removes lines of later steps, and a last line that a crash has truncated."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line).get("step", 0) <= after_step:
                lines.append(line + "\n")
    write_text(path, "".join(lines))


class Progress(keras.callbacks.Callback):
    """Progress bar: epoch, steps, loss, images per second and time left.

    A context manager to enter around `fit`, so that the bar is closed even if `fit`
    raises an exception.

    Args:
        position: `RunPosition`, earlier in the list of callbacks.
        batch_size: int. Images per step.
        every_steps: int. Steps between two readings of the loss.
    """

    async_safe = False

    def __init__(self, position, batch_size, every_steps):
        super().__init__()
        self.position = position
        self.batch_size = batch_size
        self.every_steps = every_steps

    def __enter__(self):
        position = self.position
        self._bar = ProgressBar("epoch", position.total_steps, position.step)
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = None
        self._bar.update(description=self._epoch(epoch))

    def on_train_batch_end(self, batch, logs=None):
        step = self.position.step
        # The clock starts after the first step of an epoch, which may trace the graph.
        # So the time that callbacks take between epochs does not count.
        self._start = self._start or (step, time.perf_counter())
        if step % self.every_steps == 0:
            self._bar.update(status=self._status(logs))
        self._bar.update(completed=step)

    def _status(self, logs):
        loss = f"loss {float(logs['loss']):.3f}"
        step, start = self._start
        images = (self.position.step - step) * self.batch_size
        if not images:
            return loss
        return f"{loss}  {images / (time.perf_counter() - start):.0f} images/s"

    def on_epoch_end(self, epoch, logs=None):
        values = "  ".join(
            f"{name} {float(value):.4g}" for name, value in (logs or {}).items()
        )
        self._bar.print(f"{self._epoch(epoch)}  {values}")

    def _epoch(self, epoch):
        return f"epoch {epoch + 1}/{len(self.position.epoch_ends)}"
