"""What a run tells while it trains: `metrics.jsonl`, TensorBoard, a progress line."""

import atexit
import json
import pathlib
import time

import keras
import tensorflow as tf
from rich import progress


class MetricsLog(keras.callbacks.Callback):
    """Writes the logs of every n-th step to `metrics.jsonl` and to TensorBoard.

    A resumed run appends; lines of steps that it repeats are dropped first.

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
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
            name: float(value) for name, value in (logs or {}).items() if "/" in name
        }
        if extra:
            self._write_line({"step": self.step, "epoch": epoch + 1, **extra})

    def _write(self, logs):
        # Reading a value waits for the device, so the clock is read after it.
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
        # Without it an interrupted run leaves the terminal without a cursor.
        atexit.register(self._bar.stop)
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = None
        self._bar.update(self._task, description=f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # The speed is that of the steps after an epoch's first, which may trace the
        # graph; what callbacks do between epochs takes no part in it.
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
        atexit.unregister(self._bar.stop)
