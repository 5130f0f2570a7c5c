"""Training of a detector by a recipe, with a state from which it resumes."""

import math
import os
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from byol_keras.benchmarks.detection.batches import training_batches
from byol_keras.benchmarks.detection.recipe import DetectorTraining
from byol_keras.benchmarks.detection.schedule import WarmupMilestones
from byol_keras.benchmarks.precision import check_batch_size
from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.benchmarks.training_state import SaveState, TrainingState
from byol_keras.optimizers import MomentumSGD

LOG_STEPS = 10


def compile_detector(
    detector, recipe: DetectorTraining, num_images: int
) -> WarmupMilestones:
    """Compiles a detector with the optimizer of a recipe, and builds the optimizer.

    Args:
        detector: `two_stage.TwoStageDetector`.
        recipe: `DetectorTraining`.
        num_images: int. Training images with objects, for lengths in epochs.

    Returns:
        The learning rate schedule.
    """
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
    """Trains a detector in place, starting from its saved state if there is one.

    Args:
        detector: `two_stage.TwoStageDetector`, made in the scope of the strategy.
        data: `dataset.DetectionData`.
        recipe: `DetectorTraining`.
        image_size, mask_size, padding_color: see `batches.training_batches`.
        state_path: `.npz` file for the state of this run, or None.
        seed: int. Of the order of the images, of their sizes and flips, and of the
            anchors and proposals that are sampled. A resumed run repeats the steps of
            an uninterrupted one.

    Raises:
        ValueError: if the batch is not divisible by the replicas, or the loss is not
            finite.
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
        callbacks = [RefuseNonfiniteLoss(start, end)]
        if state:
            callbacks.append(SaveState(state, start, recipe.save_every_steps))
        with TrainingProgress(
            "detector", end, start, show_every_steps=LOG_STEPS
        ) as bar:
            _train_steps(detector, batches(start), end - start, [bar, *callbacks])
    if recipe.precise_bn_steps:
        precise_batch_norm(detector, batches(end), recipe.precise_bn_steps)


def _train_steps(detector, batches, steps, callbacks):
    detector.fit(
        batches,
        steps_per_epoch=steps,
        shuffle=False,  # the batches have their own, reproducible order
        verbose=0,
        callbacks=callbacks,
    )


def _num_trained_on(data):
    """Number of images with an object to train on; batches leave out the others."""
    return sum(
        bool(np.any(~x.difficult | data.trains_difficult)) for x in data.examples
    )


def _norms(detector):
    kind = keras.layers.BatchNormalization
    return [x for x in detector._flatten_layers() if isinstance(x, kind)]


class RefuseNonfiniteLoss(keras.callbacks.Callback):
    """Ends a training whose loss is no longer finite.

    Args:
        start, end: int. First step of this process, and the length of the run.

    Raises:
        ValueError: within `LOG_STEPS` steps after the loss became NaN or infinite.
    """

    async_safe = False

    def __init__(self, start: int, end: int):
        super().__init__()
        self.step, self.end = start, end

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # Reading the losses waits for the device.
        if self.step % LOG_STEPS and self.step < self.end:
            return
        losses = {name: float(value) for name, value in logs.items()}
        if not math.isfinite(losses["loss"]):
            text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            raise ValueError(
                "DetectorTraining.learning_rate must keep the loss finite. "
                f"Received: {text} at step {self.step}"
            )


def precise_batch_norm(detector, batches, steps: int) -> None:
    """Sets the moving statistics of BatchNormalization to their mean over batches.

    No weight is trained.

    Args:
        detector: compiled `two_stage.TwoStageDetector`.
        batches: see `batches.training_batches`.
        steps: int. Number of batches.

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
        norm.momentum = 0.0  # keeps only the statistics of the last batch
    detector.make_train_function(force=True)
    adding = keras.callbacks.LambdaCallback(on_train_batch_end=add)
    _train_steps(detector, batches, steps, [adding])
    for total, variable in zip(sums, statistics, strict=True):
        variable.assign(total / steps)
    detector.learns = True
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    detector.make_train_function(force=True)
