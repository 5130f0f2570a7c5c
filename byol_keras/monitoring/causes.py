"""Likely causes of a collapse, from the networks and the readings."""

import math
from collections.abc import Mapping

import keras

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)
# Limits for the norm of the kernels relative to its first value. In
# experiments/method_resnet18_12e the ratio ends within 0.98..1.11 if only the target or
# the views differ from the base, at 1.31 with 10 times the learning rate, and at 0.18
# with 100 times the weight decay.
GREW, SHRANK = 1.25, 0.8
# With a smaller tau the target averages less than two steps.
MEMORYLESS = 0.5
# Starts of the names of readings in the logs.
PREFIXES = ("monitor/", "shortcut/")


def likely_causes(model, first: Mapping, latest: Mapping, verdict: str) -> list[str]:
    """Explains a verdict by the networks and the readings, in words.

    Args:
        model: `BYOL`.
        first: logs of the first reading.
        latest: logs of the reading that the verdict is about.
        verdict: one of `representation.VERDICTS`.

    Returns:
        list of str, the most certain cause first. For a healthy representation it is
        empty, unless the target does not move or equals the online network: then the
        directions spread out, but the network learns little.
    """
    if verdict == "healthy":
        return _causes_of_target(latest)
    if not monitored(latest):
        return ["features are not finite"]
    rules = _rules(model, first, latest)
    return [cause for cause, applies in rules.items() if applies] or [
        "none of the usual ones: compare learning rate, weight decay, tau and "
        "augmentations with a recipe's"
    ]


def _causes_of_target(latest) -> list[str]:
    """Causes that concern the moving average, in words."""
    if "tau" not in latest:
        return ["the target stands still: there is no TargetEMA"]
    tau = latest["tau"]
    if tau >= 1.0:
        return ["the target stands still: tau is 1"]
    if tau < MEMORYLESS:
        return [f"the target is the online network itself: tau is {tau:.2g}"]
    return []


def _rules(model, first, latest) -> dict[str, bool]:
    """Causes in words -> whether they apply."""
    # A missing norm was not finite.
    norm = latest.get("monitor/weight_norm", math.inf)
    growth = norm / first.get("monitor/weight_norm", norm)
    heads = (model.online.projector, model.predictor)
    normalised = any(
        isinstance(layer, NORMALIZATIONS) for head in heads for layer in head.layers
    )
    return {
        "the predictor has no weights, so that a constant satisfies both networks": (
            not model.predictor.trainable_variables
        ),
        **dict.fromkeys(_causes_of_target(latest), True),
        "neither projector nor predictor normalises its hidden layer": not normalised,
        f"the weights have grown {growth:.1f} times: the learning rate is too high": (
            growth > GREW
        ),
        f"the weights have shrunk to {growth:.0%}: the weight decay is too high": (
            growth < SHRANK
        ),
        "steps were not finite: the learning rate is too high, or an image is broken": (
            latest.get("skipped_steps", 0) > 0
        ),
    }


def monitored(readings: Mapping) -> dict:
    """The readings of the representation among the logs of a step."""
    return {k: v for k, v in readings.items() if k.startswith(PREFIXES)}
