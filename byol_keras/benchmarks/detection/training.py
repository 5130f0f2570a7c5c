"""Training of a detector: its recipe, its steps, its progress."""

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence

import gin
import keras
import numpy as np
from keras import ops
from rich import progress

from byol_keras.benchmarks.detection.batches import SHORT_SIDES, training_batches
from byol_keras.benchmarks.detection.schedule import WarmupMilestones
from byol_keras.benchmarks.precision import check_batch_size
from byol_keras.benchmarks.training_state import SaveState, TrainingState
from byol_keras.optimizers import MomentumSGD

LOG_STEPS = 10


@gin.register(module="byol_keras")
@dataclasses.dataclass(frozen=True)
class DetectorTraining:
    """How a detector is trained: SGD, a warm-up, and steps of the learning rate.

    Args:
        steps: int. Length in steps, or None.
        epochs: int. Length in passes over the images with objects, or None.
        milestones: steps, or epochs where that is how the length is told, from which
            the learning rate is multiplied by a tenth (once more).
        batch_size: int. Images per step, over all replicas.
        learning_rate: float. For this batch size: it is not scaled.
        warmup_steps, warmup_factor: the rate grows linearly, from this share of it.
        momentum, weight_decay: of SGD; the decay is part of the gradient.
        decay_norms: bool. Whether scales and offsets of normalisation decay too.
        short_sides, max_long_side, flip, max_boxes: see `batches.training_batches`.
        precise_bn_steps: int. Batches after the last step, over whose statistics those
            of BatchNormalization are averaged.
        save_every_steps: int. After so many steps, what a resumed run needs is saved.

    Raises:
        ValueError: if not one of `steps` and `epochs` is given, or a number is not
            positive, or the milestones do not ascend.

    Source: see gin/protocol/detection_voc.gin and detection_coco.gin.
    """

    steps: int | None = None
    epochs: int | None = None
    milestones: Sequence[int] = ()
    batch_size: int = 16
    learning_rate: float = 0.02
    warmup_steps: int = 100
    warmup_factor: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norms: bool = True
    short_sides: Sequence[int] = SHORT_SIDES
    max_long_side: int = 1333
    flip: bool = True
    max_boxes: int = 100
    precise_bn_steps: int = 0
    save_every_steps: int = 1000

    def __post_init__(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                "DetectorTraining must have either steps or epochs. "
                f"Received: {self.steps!r} and {self.epochs!r}"
            )
        length = "epochs" if self.steps is None else "steps"
        for name in (length, "batch_size", "learning_rate", "save_every_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"DetectorTraining.{name} must be positive. "
                    f"Received: {getattr(self, name)!r}"
                )
        pairs = itertools.pairwise((0, *self.milestones))
        if not all(before < after for before, after in pairs):
            raise ValueError(
                "DetectorTraining.milestones must be positive and ascend. "
                f"Received: {self.milestones!r}"
            )

    def schedule(self, num_images: int) -> WarmupMilestones:
        """The learning rate; `total_steps` of it is the length of the run."""
        unit = 1 if self.epochs is None else math.ceil(num_images / self.batch_size)
        return WarmupMilestones(
            self.learning_rate,
            total_steps=unit * (self.steps or self.epochs),
            milestones=[unit * milestone for milestone in self.milestones],
            warmup_steps=self.warmup_steps,
            warmup_factor=self.warmup_factor,
        )


def compile_detector(detector, recipe: DetectorTraining, num_images: int):
    """Gives a detector its optimizer, built; returns the schedule."""
    schedule = recipe.schedule(num_images)
    optimizer = MomentumSGD(schedule, recipe.momentum, weight_decay=recipe.weight_decay)
    if not recipe.decay_norms:
        norms = [w for norm in _norms(detector) for w in norm.trainable_variables]
        optimizer.exclude_from_weight_decay(var_list=norms)
    detector.compile(optimizer=optimizer, jit_compile=False)
    detector.optimizer.build(detector.trainable_variables)
    return schedule


def train_detector(
    detector,
    data,
    recipe: DetectorTraining,
    image_size: tuple[int, int],
    mask_size: int | None = None,
    padding_color: Sequence[float] = (0.0, 0.0, 0.0),
    state_path: str | os.PathLike | None = None,
    seed: int = 0,
) -> None:
    """Trains a detector, from where an earlier process stopped, if one did.

    Args:
        detector: `two_stage.TwoStageDetector`, made in the scope of the strategy.
        data: `dataset.DetectionData`.
        recipe: `DetectorTraining`.
        image_size, mask_size, padding_color: see `batches.training_batches`.
        state_path: `.npz` file for the state of this very run, or None.
        seed: int. Of the order of the images, of their sizes and flips, and of the
            anchors and proposals that are sampled. A resumed run takes the steps that
            it would have taken.

    Raises:
        ValueError: if the batch is not divisible by the replicas, or the loss is no
            number any more.
    """
    check_batch_size("DetectorTraining", recipe.batch_size)
    schedule = compile_detector(detector, recipe, _num_trained_on(data))
    state = state_path and TrainingState(state_path, detector)
    start = state.restore() if state else 0
    if start:
        print(f"resuming at step {start} of {schedule.total_steps}")

    def batches(step):
        return training_batches(
            data,
            recipe.batch_size,
            image_size,
            short_sides=recipe.short_sides,
            max_long_side=recipe.max_long_side,
            flip=recipe.flip,
            seed=seed,
            start=step * recipe.batch_size,
            max_boxes=recipe.max_boxes,
            mask_size=mask_size,
            padding_color=padding_color,
        )

    end = schedule.total_steps
    if start < end:
        callbacks = [FollowTraining(start, end)]
        if state:
            callbacks.append(SaveState(state, start, recipe.save_every_steps))
        _fit(detector, batches(start), end - start, callbacks)
    if recipe.precise_bn_steps:
        precise_batch_norm(detector, batches(end), recipe.precise_bn_steps)


def _fit(detector, batches, steps, callbacks):
    detector.fit(
        batches,
        steps_per_epoch=steps,
        shuffle=False,  # the batches have their own, reproducible order
        verbose=0,
        callbacks=callbacks,
    )


def _num_trained_on(data):
    """Images with an object to train on; the others are left out of the batches."""
    return sum(
        bool(np.any(~x.difficult | data.trains_difficult)) for x in data.examples
    )


def _norms(detector):
    kind = keras.layers.BatchNormalization
    return [x for x in detector._flatten_layers() if isinstance(x, kind)]


class FollowTraining(keras.callbacks.Callback):
    """A bar with the losses and the time left.

    Args:
        start, end: int. First step of this process, and the length of the run.

    Raises:
        ValueError: if the loss is no number any more.
    """

    def __init__(self, start, end):
        super().__init__()
        self.step, self.end = start, end
        self.bar = progress.Progress(
            progress.TextColumn("detector"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.description}"),
        )
        self.task = self.bar.add_task("", total=end, completed=start)

    def on_train_begin(self, logs=None):
        self.bar.start()

    def on_train_end(self, logs=None):
        self.bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # Reading the losses waits for the device.
        if self.step % LOG_STEPS == 0 or self.step == self.end:
            self._report({name: float(value) for name, value in logs.items()})

    def _report(self, losses):
        text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.bar.update(self.task, completed=self.step, description=text)
        if not math.isfinite(losses["loss"]):
            self.bar.stop()
            raise ValueError(
                "DetectorTraining.learning_rate must let the loss stay finite. "
                f"Received: {text} at step {self.step}"
            )


def precise_batch_norm(detector, batches, steps: int) -> None:
    """Sets moving statistics to the mean of those of some batches; nothing is learnt.

    Source: fvcore `precise_bn.py`, as detectron2 calls it before evaluation.
    """
    norms = _norms(detector)
    statistics = [x for n in norms for x in (n.moving_mean, n.moving_variance)]
    sums = [np.zeros(variable.shape, np.float64) for variable in statistics]

    def add(batch, logs):
        for total, variable in zip(sums, statistics, strict=True):
            total += ops.convert_to_numpy(variable)

    momenta = [norm.momentum for norm in norms]
    detector.learns = False
    for norm in norms:
        norm.momentum = 0.0  # the statistics are then those of the last batch
    detector.make_train_function(force=True)
    adding = keras.callbacks.LambdaCallback(on_train_batch_end=add)
    _fit(detector, batches, steps, [adding])
    for total, variable in zip(sums, statistics, strict=True):
        variable.assign(total / steps)
    detector.learns = True
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    detector.make_train_function(force=True)
