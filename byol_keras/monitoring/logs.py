"""What a run tells while it trains: `metrics.jsonl`, TensorBoard, a progress line."""

import contextlib
import json
import os
import time

import keras
import tensorflow as tf
from rich import progress

from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder


class TensorLogs(keras.callbacks.CallbackList):
    """The callbacks of a `fit`, which get the logs of a step as tensors.

    Keras makes floats of them after every step, for which an accelerator has to have
    ended it and then waits for the host. Here only who reads a value waits.

    Args:
        callbacks: list of `keras.callbacks.Callback`.
        model: that is trained.
        epochs, steps: of the run, and of an epoch.
    """

    def __init__(self, callbacks, model, epochs, steps):
        params = {"epochs": epochs, "steps": steps, "verbose": 0}
        super().__init__(callbacks, add_history=True, model=model, **params)

    def on_train_batch_end(self, batch, logs=None):
        logs = dict(logs or {})  # what callbacks add is not the model's
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs=logs)


class MetricsLog(keras.callbacks.Callback):
    """Writes the logs of every n-th step to `metrics.jsonl` and to TensorBoard.

    A resumed run appends. What an earlier process has written of steps that this one
    repeats is dropped first, so that every step is there once.

    Args:
        model_dir: path of the run folder.
        position: `callbacks.RunPosition`, earlier in the list of callbacks.
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
        for path in self.log_dir.glob("events.out.tfevents.*"):
            _drop_events(path, after_step=self.position.step)
        self._writer = tf.summary.create_file_writer(str(self.log_dir))

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
        """Writes a line to the disk: a checkpoint that comes after it has it behind."""
        line = {"step": self.position.step, "epoch": self.position.epoch + 1, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with self._writer.as_default():
            for name, value in line.items():
                if name != "step":
                    tf.summary.write(name, value, line["step"], _scalar_metadata())
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def _scalar_metadata():
    """What `tf.summary.scalar` writes, which needs the package tensorboard itself."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    return metadata


def _drop_lines(path, after_step):
    """Drops lines of later steps, and a last line that a crash cut short."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line).get("step", 0) <= after_step:
                lines.append(line + "\n")
    write_text(path, "".join(lines))


def _drop_events(path, after_step):
    """Drops events of later steps, and a last one that a crash cut short."""
    kept, dropped = [], False
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            later = tf.compat.v1.Event.FromString(record).step > after_step
            dropped |= later
            if not later:
                kept.append(record)
    except tf.errors.DataLossError:
        dropped = True
    if not dropped:
        return
    # A name that TensorBoard does not read.
    temporary = path.with_name(f"rewritten.{path.name.rpartition('tfevents.')[2]}")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for record in kept:
            writer.write(record)
    os.replace(temporary, path)


class Progress(keras.callbacks.Callback):
    """Shows steps, images per second, time left and the loss, in one line.

    To be entered around `fit`, so that the line ends also where `fit` does not.

    Args:
        position: `callbacks.RunPosition`, earlier in the list of callbacks.
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
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[status]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "epoch",
            total=self.position.total_steps,
            completed=self.position.step,
            status="",
        )
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = None
        self._bar.update(self._task, description=self._epoch(epoch))

    def on_train_batch_end(self, batch, logs=None):
        step = self.position.step
        # The speed is that of the steps after an epoch's first, which may trace the
        # graph; what callbacks do between epochs takes no part in it.
        self._start = self._start or (step, time.perf_counter())
        if step % self.every_steps == 0:
            self._bar.update(self._task, status=self._status(logs))
        self._bar.update(self._task, completed=step)

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
        line = f"{self._epoch(epoch)}  {values}"
        self._bar.console.print(line, soft_wrap=True)  # one line in a file, too

    def _epoch(self, epoch):
        return f"epoch {epoch + 1}/{len(self.position.epoch_ends)}"
