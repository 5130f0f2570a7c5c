"""Learning rate schedules of downstream protocols that pre-training does not use.

Cosine schedules come from `byol_keras.schedules`, without warm-up: `warmup_cosine`
changes at every step, `warmup_epoch_cosine` once per epoch.
"""

import itertools
from collections.abc import Sequence

import gin
import keras

from byol_keras.runtime.argument_checks import is_positive_int
from byol_keras.schedules import RunLength, scaled_learning_rate


@gin.register(module="byol_keras")
def step_decay(
    run_length: RunLength,
    base_learning_rate: float,
    milestones: Sequence[int],
    factor: float = 0.1,
) -> keras.optimizers.schedules.PiecewiseConstantDecay:
    """A constant rate that is multiplied by a factor at the start of some epochs.

    Args:
        run_length: `RunLength` of the run.
        base_learning_rate: float. Per 256 images, as in all schedules.
        milestones: ascending epochs, counted from 0. Milestones after the end of the
            run have no effect.
        factor: float, positive. Defaults to 0.1.

    Raises:
        ValueError: if `milestones` are not ascending positive ints, or a number is
            not positive.

    Source: mmselfsup 0.x, schedules "step" of its benchmarks.
    """
    _check_milestones(milestones)
    for name, value in (("base_learning_rate", base_learning_rate), ("factor", factor)):
        if not value > 0:
            raise ValueError(f"step_decay.{name} must be positive. Received: {value!r}")
    peak = scaled_learning_rate(base_learning_rate, run_length.batch_size)
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        # Keras changes the value after a boundary, not at it.
        boundaries=[run_length.step_at_epoch(epoch) - 1 for epoch in milestones],
        values=[peak * factor**times for times in range(len(milestones) + 1)],
    )


def _check_milestones(milestones):
    whole = isinstance(milestones, (list, tuple)) and all(
        is_positive_int(epoch) for epoch in milestones
    )
    if not (
        whole and milestones and all(a < b for a, b in itertools.pairwise(milestones))
    ):
        raise ValueError(
            "step_decay.milestones must be a list of ascending positive ints. "
            f"Received: {milestones!r}"
        )
