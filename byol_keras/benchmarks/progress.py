"""Progress of a training in a benchmark: one line with steps, losses and time left."""

import keras

from byol_keras.runtime.progress import ProgressBar
from byol_keras.schedules import RunLength

_SHOW_EVERY_STEPS = 20


class TrainingProgress(keras.callbacks.Callback):
    """Shows the progress of a `fit` that runs inside its context.

        with TrainingProgress("head", total_steps=100) as shown:
            model.fit(batches, steps_per_epoch=100, verbose=0, callbacks=[shown])

    Args:
        title: str. Name of the training.
        total_steps: int. Length of the whole run.
        first_step: int. Step at which this process starts. Defaults to 0.
        length: `RunLength` of the run, to show its epochs too. Defaults to None.
        show_every_steps: int. Steps between two readings of the losses, for which the
            host has to wait for the device.
    """

    # Calls that Keras makes from another thread would race with the next step.
    async_safe = False

    def __init__(
        self,
        title: str,
        total_steps: int,
        first_step: int = 0,
        length: RunLength | None = None,
        show_every_steps: int = _SHOW_EVERY_STEPS,
    ):
        super().__init__()
        self.title = title
        self.total_steps = total_steps
        self.step = first_step
        self.length = length
        self.show_every_steps = show_every_steps
        self._bar = ProgressBar(title, total_steps, first_step)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.show_every_steps and self.step < self.total_steps:
            return
        losses = [f"{name} {float(value):.4g}" for name, value in (logs or {}).items()]
        self._bar.update(self.step, self._description(), " ".join(losses))

    def _description(self):
        if self.length is None:
            return self.title
        epoch = self.length.epoch_of_step(self.step - 1) + 1
        return f"{self.title}, epoch {epoch}/{self.length.epochs}"
