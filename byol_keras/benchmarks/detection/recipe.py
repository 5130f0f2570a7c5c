"""The recipe of a detector's training: its settings, checked."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import gin

from byol_keras.benchmarks.detection.batches import SHORT_SIDES
from byol_keras.benchmarks.detection.schedule import WarmupMilestones


@gin.register(module="byol_keras")
@dataclasses.dataclass(frozen=True)
class DetectorTraining:
    """Settings for training a detector: SGD, warm-up, and a rate that falls in steps.

    Args:
        steps: int. Length in steps, or None.
        epochs: int. Length in passes over the images with objects, or None.
        milestones: each multiplies the learning rate by 0.1 from there on; in steps, or
            in epochs if the length is in epochs.
        batch_size: int. Images per step, over all replicas.
        learning_rate: float. For this batch size; it is not scaled.
        warmup_steps, warmup_factor: the rate grows linearly from this share of it.
        momentum, weight_decay: of SGD; the decay is part of the gradient.
        decay_norms: bool. Whether the weights of BatchNormalization decay too.
        short_sides, max_long_side, flip, max_boxes: see `batches.training_batches`.
        precise_bn_steps: int. Batches after the last step over which the statistics of
            BatchNormalization are averaged.
        save_every_steps: int. Steps between two saved states.

    Raises:
        ValueError: unless exactly one of `steps` and `epochs` is given, numbers are
            positive, and the milestones ascend.

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
        """The learning rate schedule, whose `total_steps` is the length of the run."""
        unit = 1 if self.epochs is None else math.ceil(num_images / self.batch_size)
        return WarmupMilestones(
            self.learning_rate,
            total_steps=unit * (self.steps or self.epochs),
            milestones=[unit * milestone for milestone in self.milestones],
            warmup_steps=self.warmup_steps,
            warmup_factor=self.warmup_factor,
        )
