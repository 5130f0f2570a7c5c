"""The length of a run in optimizer steps, and learning-rate schedules over it.

A step is one update of the weights, for any number of accumulated micro-batches.
"""

import dataclasses
import math

import gin
import keras
from keras import ops

from byol_keras.runtime.argument_checks import (
    check_choice,
    check_int,
    check_positive_ints,
)

_LAST_BATCH_RULES = ("carry", "pad")
_MMSELFSUP_WARMUP_RATIO = 1e-4


@dataclasses.dataclass(frozen=True)
class RunLength:
    """The length of a run in optimizer steps, from images and epochs.

    Args:
        num_examples: int. Images in the dataset.
        batch_size: int. All images of one update, over every replica and every
            micro-batch.
        epochs: int. Passes over the dataset.
        accumulation_steps: int. Micro-batches of one update.
        last_batch: rule for a pass that ends inside a batch. "carry": the batch is
            completed with images of the next pass, as in DeepMind's code. "pad": every
            pass is padded to a whole number of micro-batches, as in mmselfsup.

    Raises:
        ValueError: if a number is not a positive int, `batch_size` is not divisible
            by `accumulation_steps` or larger than `num_examples`, or `last_batch` is
            unknown.

    Source: deepmind-research `byol/byol_experiment.py` ("carry"); mmselfsup 0.x
        samplers and `core/hooks/optimizer_hook.py` ("pad"), whose updates also
        accumulate across the ends of passes and whose last one may be partial.
    """

    num_examples: int
    batch_size: int
    epochs: int
    accumulation_steps: int = 1
    last_batch: str = "carry"

    def __post_init__(self):
        for name in ("num_examples", "batch_size", "epochs", "accumulation_steps"):
            value = getattr(self, name)
            check_positive_ints(**{name: value})
            # NumPy integers would overflow where Python's do not.
            object.__setattr__(self, name, int(value))
        check_choice("last_batch", self.last_batch, _LAST_BATCH_RULES)
        _check(
            self.batch_size % self.accumulation_steps == 0,
            f"batch_size must be divisible by accumulation_steps "
            f"({self.accumulation_steps})",
            self.batch_size,
        )
        _check(
            self.batch_size <= self.num_examples,
            f"batch_size must not be larger than num_examples ({self.num_examples})",
            self.batch_size,
        )

    @property
    def iterations_per_epoch(self) -> int:
        """Micro-batches of one pass, a whole number only for "pad"."""
        _check(
            self.last_batch == "pad",
            'last_batch must be "pad" where the iterations of an epoch are counted',
            self.last_batch,
        )
        return _ceil_div(self.num_examples, self.batch_size // self.accumulation_steps)

    @property
    def pass_length(self) -> int:
        """Images of one pass, padding included."""
        if self.last_batch == "carry":
            return self.num_examples
        return self.iterations_per_epoch * (self.batch_size // self.accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.step_at_epoch(self.epochs)

    def step_at_epoch(self, epoch: int) -> int:
        """Number of updates in the first `epoch` passes, the first step of `epoch`."""
        if self.last_batch == "carry":
            return epoch * self.num_examples // self.batch_size
        return _ceil_div(epoch * self.iterations_per_epoch, self.accumulation_steps)

    def epoch_of_step(self, step: int) -> int:
        """Epoch of a step, both counted from 0; the inverse of `step_at_epoch`."""
        if self.last_batch == "carry":
            return ((step + 1) * self.batch_size - 1) // self.num_examples
        return step * self.accumulation_steps // self.iterations_per_epoch


@keras.saving.register_keras_serializable(package="byol_keras")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from exactly 0, then a cosine to 0, both per step.

    Args:
        peak_learning_rate: float. Reached at step `warmup_steps`.
        total_steps: int. Steps of the whole run, with the warm-up. The rate is 0 after.
        warmup_steps: int. Optimizer steps, not epochs. Defaults to 0.

    Raises:
        ValueError: if `warmup_steps` is negative or not smaller than `total_steps`.

    Source: deepmind-research `byol/utils/schedules.py`.
    """

    def __init__(self, peak_learning_rate, total_steps, warmup_steps=0):
        check_positive_ints(total_steps=total_steps)
        _check_warmup("warmup_steps", warmup_steps, "total_steps", total_steps)
        self.peak_learning_rate = peak_learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "int64")
        warmup = ops.cast(step, "float32") / max(self.warmup_steps, 1)
        cosine = _half_cosine(
            self.total_steps - step, self.total_steps - self.warmup_steps
        )
        factor = ops.where(step < self.warmup_steps, warmup, cosine)
        return self.peak_learning_rate * factor

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="byol_keras")
class WarmupEpochCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Cosine decay that is constant within an epoch, times a linear warm-up.

    The cosine includes the epochs of the warm-up, so the rate stays below its peak. The
    warm-up factor increases with every micro-iteration, from 1e-4. An update uses the
    rate of its last micro-iteration. The last update of a run can have fewer
    micro-iterations than the others.

    Args:
        peak_learning_rate: float. Start of the cosine.
        epochs: int. The rate of the last epoch is above 0 and holds after the end too.
        warmup_epochs: int.
        iterations_per_epoch: int. Micro-batches of one pass.
        accumulation_steps: int. Micro-batches of one update. Defaults to 1.

    Raises:
        ValueError: if a number is not a positive int, or `warmup_epochs` is negative
            or not smaller than `epochs`.

    Source: open-mmlab/mmcv@1d8f9285 `lr_updater.py` with mmselfsup 0.x
        `configs/selfsup/_base_/schedules/lars_coslr-200e_in1k.py`.
    """

    def __init__(
        self,
        peak_learning_rate,
        epochs,
        warmup_epochs,
        iterations_per_epoch,
        accumulation_steps=1,
    ):
        check_positive_ints(
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            accumulation_steps=accumulation_steps,
        )
        _check_warmup("warmup_epochs", warmup_epochs, "epochs", epochs)
        self.peak_learning_rate = peak_learning_rate
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.iterations_per_epoch = iterations_per_epoch
        self.accumulation_steps = accumulation_steps

    def __call__(self, step):
        last = (ops.cast(step, "int64") + 1) * self.accumulation_steps - 1
        iteration = ops.minimum(last, self.epochs * self.iterations_per_epoch - 1)
        epoch = iteration // self.iterations_per_epoch
        progress = ops.cast(iteration, "float32") / max(
            self.warmup_epochs * self.iterations_per_epoch, 1
        )
        warmup = _MMSELFSUP_WARMUP_RATIO + (1.0 - _MMSELFSUP_WARMUP_RATIO) * progress
        factor = ops.where(epoch < self.warmup_epochs, warmup, 1.0)
        stair = _half_cosine(self.epochs - epoch, self.epochs)
        return self.peak_learning_rate * factor * stair

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "epochs": self.epochs,
            "warmup_epochs": self.warmup_epochs,
            "iterations_per_epoch": self.iterations_per_epoch,
            "accumulation_steps": self.accumulation_steps,
        }


def scaled_learning_rate(base_learning_rate: float, batch_size: int) -> float:
    """The linear scaling rule: the base learning rate is per 256 images.

    Source: Grill et al. 2020, section 3.3.
    """
    return base_learning_rate * batch_size / 256


@gin.register(module="byol_keras")
def warmup_cosine(
    run_length: RunLength, base_learning_rate: float, warmup_epochs: int = 10
) -> WarmupCosine:
    """DeepMind's schedule for a run of this length, scaled to its batch size.

    Raises:
        ValueError: if `warmup_epochs` is negative or not smaller than the epochs.
    """
    _check_warmup("warmup_epochs", warmup_epochs, "epochs", run_length.epochs)
    return WarmupCosine(
        scaled_learning_rate(base_learning_rate, run_length.batch_size),
        total_steps=run_length.total_steps,
        warmup_steps=run_length.step_at_epoch(warmup_epochs),
    )


@gin.register(module="byol_keras")
def warmup_epoch_cosine(
    run_length: RunLength, base_learning_rate: float, warmup_epochs: int = 10
) -> WarmupEpochCosine:
    """The schedule of mmselfsup 0.x for a run of this length, scaled to its batch size.

    Raises:
        ValueError: if `warmup_epochs` is negative or not smaller than the epochs, or
            the run's `last_batch` is not "pad".
    """
    return WarmupEpochCosine(
        scaled_learning_rate(base_learning_rate, run_length.batch_size),
        epochs=run_length.epochs,
        warmup_epochs=warmup_epochs,
        iterations_per_epoch=run_length.iterations_per_epoch,
        accumulation_steps=run_length.accumulation_steps,
    )


@gin.register(module="byol_keras")
def constant_learning_rate(run_length: RunLength, learning_rate: float) -> float:
    """The same learning rate at every step, not scaled to the batch size."""
    del run_length  # All schedules have the same first argument.
    return float(learning_rate)


def _half_cosine(remaining, length):
    """Computes `(1 + cos(pi (1 - remaining / length))) / 2`, and 0 if none remain.

    The formula is the squared sine of the remaining part. Near the end, the sum of 1
    and a cosine near -1 would lose all its digits in float32. `remaining` is a
    difference of integers and therefore exact.
    """
    remaining = ops.cast(ops.maximum(remaining, 0), "float32")
    return ops.square(ops.sin(0.5 * math.pi * remaining / length))


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _check(holds: bool, rule: str, received: object) -> None:
    if not holds:
        raise ValueError(f"{rule}. Received: {received!r}")


def _check_warmup(name: str, warmup: object, length_name: str, length: int) -> None:
    check_int(name, warmup, least=0)
    _check(
        warmup < length, f"{name} must be smaller than {length_name} ({length})", warmup
    )
