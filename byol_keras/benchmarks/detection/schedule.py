"""Learning rate schedule of detectors."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="byol_keras")
class WarmupMilestones(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a constant rate that each milestone multiplies by 0.1.

    Args:
        learning_rate: float. Reached at step `warmup_steps`.
        total_steps: int. Length of the run.
        milestones: ascending steps.
        warmup_steps: int.
        warmup_factor: float. Share of the rate at step 0.

    Source: open-mmlab/mmcv 1.x `lr_updater.py`, policy "step", warm-up "linear".
    """

    def __init__(
        self, learning_rate, total_steps, milestones, warmup_steps, warmup_factor
    ):
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.milestones = list(milestones)
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        factor = 1.0
        if self.warmup_steps:
            share = ops.minimum(step / self.warmup_steps, 1.0)
            factor = self.warmup_factor + (1.0 - self.warmup_factor) * share
        for milestone in self.milestones:
            factor = factor * ops.where(step >= milestone, 0.1, 1.0)
        return self.learning_rate * factor

    def get_config(self):
        names = (
            "learning_rate",
            "total_steps",
            "milestones",
            "warmup_steps",
            "warmup_factor",
        )
        return {name: getattr(self, name) for name in names}
