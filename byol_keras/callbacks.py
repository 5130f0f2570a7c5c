"""Callbacks of a run: the target's moving average, a warm-up of heads, the position."""

import bisect
import math

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.runtime.argument_checks import check_positive_ints, is_positive_int

# Any true value of `stop_training` ends the epoch; True is what other callbacks set.
_EPOCH_ENDED = "epoch ended"


def target_tau(step, total_steps, base_tau, final_tau=1.0):
    """Decay rate of the target at an optimizer step, by a cosine over the run.

    Args:
        step: int, float or tensor. 0 is the first update. From total_steps on, tau is
            final_tau.
        total_steps: int. Optimizer steps of the whole run.
        base_tau: float in 0..1. tau of the first step.
        final_tau: float in 0..1. tau at the end; base_tau for a constant.

    Returns:
        float64 scalar tensor, or array-like of the shape of `step`.

    Source: arXiv 2006.07733 §3.3.
    """
    progress_of_run = tf.minimum(tf.cast(step, tf.float64) / total_steps, 1.0)
    remaining = (tf.cos(math.pi * progress_of_run) + 1.0) / 2.0
    # In a graph, a tau of 0 can be computed as -0.
    return abs(final_tau - (final_tau - base_tau) * remaining)


@gin.register(module="byol_keras")
class TargetEMA(keras.callbacks.Callback):
    """Updates the target network once after every optimizer step.

    A step that loss scaling skips, because its gradients overflowed, does not count.
    Adds `tau` to the logs, as a tensor, so that no step waits for the device.

    Args:
        base_tau: float in 0..1. tau of the first step; increases by a cosine.
        total_steps: int. Optimizer steps of the whole run.
        reference_batch_size: optional int. The batch size for which `base_tau` was
            chosen; tau becomes tau^(batch_size / reference_batch_size).
        batch_size: int, needed with `reference_batch_size`: images per step.
        final_tau: float in 0..1. tau at the end; `base_tau` for a constant.

    Raises:
        ValueError: for values out of range; and at the start of training if
            `steps_per_execution` is not 1, since callbacks run once per execution and
            the target would miss steps.

    Source: arXiv 2006.07733 eq. 1 and §3.3; scaling: arXiv 2307.13813.
    """

    # Keras would call it from another thread, in a race with the next step.
    async_safe = False
    # `BYOL.fit` warns unless a callback says this.
    moves_target = True

    def __init__(
        self,
        base_tau=0.996,
        total_steps=None,
        reference_batch_size=None,
        batch_size=None,
        final_tau=1.0,
    ):
        super().__init__()
        _check_tau("base_tau", base_tau)
        _check_tau("final_tau", final_tau)
        check_positive_ints(total_steps=total_steps)
        _check_reference(reference_batch_size, batch_size)
        self.base_tau = base_tau
        self.final_tau = final_tau
        self.total_steps = total_steps
        self.exponent = (
            1.0 if reference_batch_size is None else batch_size / reference_batch_size
        )
        self._tau = None

    def tau(self, step):
        """tau at an optimizer step, float64, batch-size scaling included."""
        tau = target_tau(step, self.total_steps, self.base_tau, self.final_tau)
        return tau**self.exponent

    def on_train_begin(self, logs=None):
        if self.model.steps_per_execution != 1:
            raise ValueError(
                "steps_per_execution must be 1 with TargetEMA, which acts after every "
                f"step. Received: {self.model.steps_per_execution}"
            )
        iterations = keras.ops.convert_to_numpy(self.model.optimizer.iterations)
        with self.model.distribute_strategy.scope():
            self._moved_at = tf.Variable(iterations, dtype=tf.int64, trainable=False)
        self._update = tf.function(self._update_target)

    def _update_target(self):
        iterations = tf.cast(self.model.optimizer.iterations.value, tf.int64)
        # The optimizer has already counted the step of this update.
        tau = self.tau(tf.maximum(iterations - 1, 0))
        self.model.update_target(tf.where(iterations > self._moved_at, tau, 1.0))
        self._moved_at.assign(iterations)
        return tau

    def on_train_batch_end(self, batch, logs=None):
        with self.model.distribute_strategy.scope():
            self._tau = self._update()
        if logs is not None:
            logs["tau"] = self._tau

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._tau is not None:
            logs["tau"] = float(self._tau)


def _check_tau(name, value):
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a number in 0..1. Received: {value!r}")


def _check_reference(reference_batch_size, batch_size):
    if reference_batch_size is not None and not (
        is_positive_int(reference_batch_size) and is_positive_int(batch_size)
    ):
        raise ValueError(
            "reference_batch_size must be a positive int and needs batch_size, also a "
            f"positive int. Received: reference_batch_size={reference_batch_size!r}, "
            f"batch_size={batch_size!r}"
        )


class HeadWarmup(keras.callbacks.Callback):
    """Holds a pre-trained backbone for the first steps, while fresh heads are trained.

    After each of these steps the online backbone gets back the trainable weights of the
    target's backbone, with which it started. `TargetEMA`, later in the list, then finds
    both equal, so that the target's backbone does not move either. The heads, and the
    target's projector, are trained as in any other step.

    The update of the backbone is undone, not withheld: the optimizer has its averages
    over past gradients from the first step, as Adam's correction of their start needs.
    The statistics of BatchNormalization move. The step normalizes by the statistics of
    the new images, the heads learn from features of that kind, and inference needs the
    same: a backbone that keeps the statistics of other images would return other
    features than the heads have learned from.

    Args:
        steps: int. Steps that hold the backbone, at least 1.

    Attributes:
        step: int. Batches fed before this process; set it to resume.

    Raises:
        ValueError: if `steps` is not a positive int; and for a model whose target
            starts with another backbone than the online network.
    """

    async_safe = False
    stateless = True

    def __init__(self, steps):
        super().__init__()
        check_positive_ints(steps=steps)
        self.steps = steps
        self.step = 0

    def set_model(self, model):
        super().set_model(model)
        if model.built and self.step < self.steps and not _have_same_backbone(model):
            raise ValueError(
                "steps of HeadWarmup need a pre-trained backbone, in which online and "
                "target network are equal at the start. Received: "
                f"{self.steps} steps, and two networks that differ"
            )

    def on_train_begin(self, logs=None):
        self._hold = tf.function(self._hold_backbone)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step <= self.steps:
            with self.model.distribute_strategy.scope():
                self._hold()

    def _hold_backbone(self):
        update = self.model.distribute_strategy.extended.update
        for online, target in _backbone_weights(self.model):
            update(
                online.value,
                lambda weight, held: weight.assign(held),
                args=(target.value,),
                group=False,
            )


def _backbone_weights(model):
    """Pairs of a trainable weight of the online backbone and that of the target's."""
    networks = model.online.backbone, model.target.backbone
    pairs = zip(*(network.variables for network in networks), strict=True)
    return [pair for pair in pairs if pair[0].trainable]


def _have_same_backbone(model):
    return all(
        np.array_equal(*map(keras.ops.convert_to_numpy, pair))
        for pair in _backbone_weights(model)
    )


class RunPosition(keras.callbacks.Callback):
    """Current step and epoch of a run, for all callbacks after this one.

    The step is the number of batches that the run has been fed, including those before
    it was resumed. It is counted on the host, so no step waits for the device.

    One pass over the data is rarely a whole number of batches, so epochs differ by a
    step, while `fit` takes one number of steps per epoch. It gets the largest, and this
    callback, first in the list, ends each epoch at the right step. A callback that sets
    `stop_training = True` still ends the run.

    Args:
        epoch_ends: list of int. Step at which epoch 0, 1, ... ends.
        step: int. Step at which this process starts, possibly inside an epoch.

    Attributes:
        step: int. Batches fed so far.
        epoch: int. The epoch that the next batch belongs to, from 0; during
            `on_epoch_end` the one that ends.
    """

    async_safe = False

    def __init__(self, epoch_ends, step=0):
        super().__init__()
        self.epoch_ends = list(epoch_ends)
        self.move_to(step)

    def move_to(self, step: int) -> None:
        """Sets the step at which `fit` starts."""
        self.step = step
        self.epoch = bisect.bisect_right(self.epoch_ends, step)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epoch_ends[-1]

    @property
    def longest_epoch(self) -> int:
        """Steps of the longest epoch, the `steps_per_epoch` of `fit`."""
        return int(np.max(np.diff([0, *self.epoch_ends])))

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last batch of the epoch has been fed."""
        return self.step == self.epoch_ends[self.epoch]

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.at_epoch_end and not self.model.stop_training:
            self.model.stop_training = _EPOCH_ENDED

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training == _EPOCH_ENDED:
            self.model.stop_training = False
