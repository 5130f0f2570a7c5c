"""Collapse detection: measures the representation while BYOL trains."""

import json
import math
from collections.abc import Mapping

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.monitoring import representation
from byol_keras.runtime import workers
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder

ON_COLLAPSE = ("warn", "stop")
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


@gin.register(module="byol_keras")
class CollapseDoctor(keras.callbacks.Callback):
    """Measures the representation of fixed images at intervals and gives a verdict.

    The callback only reads: the trained weights are bit for bit those of a run without
    it. BatchNormalization uses the statistics of the probe, as in a training step, so
    that moving averages that have not settled cause no false alarm.

    Adds to the logs, at the first logged step of every interval: the quantities of
    `representation.measure`; `monitor/weight_distance`, the distance between the target
    and the online weights relative to the norm of the latter; `monitor/weight_norm`;
    `monitor/ema_horizon`, in images.

    A change of the verdict is printed. `health.json` in the run folder holds the first
    and the latest reading, the verdict with its likely causes, and all changes.

    Args:
        probe: `(view1, view2)`, each float32 `[N, S, S, C]` in 0..1, or a function
            without arguments that returns them. A few hundred images are enough.
        batch_size: optional int. Images per step of the run, for `ema_horizon`.
        every_steps: int. Steps between two readings.
        log_every_steps: int. Steps between two lines of the log.
        on_collapse: "warn", or "stop" to end the run.
        model_dir: optional path of the run folder.

    Attributes:
        step: int. Optimizer step at which this process starts; set it to resume.
        verdict: one of `representation.VERDICTS`, or None before the first one.
        stopped: str or None. The reason why the callback has stopped the run.

    Raises:
        ValueError: for an unknown `on_collapse` and numbers that are not positive.
    """

    async_safe = False

    def __init__(
        self,
        probe,
        batch_size: int | None = None,
        every_steps: int = 100,
        log_every_steps: int = 1,
        on_collapse: str = "warn",
        model_dir=None,
    ):
        super().__init__()
        check_choice("on_collapse", on_collapse, ON_COLLAPSE)
        check_positive_ints(every_steps=every_steps, log_every_steps=log_every_steps)
        self.probe = probe
        self.batch_size = batch_size
        self.every_steps = every_steps
        self.log_every_steps = log_every_steps
        self.on_collapse = on_collapse
        self.path = None if model_dir is None else RunFolder(model_dir).health
        self.step = 0
        self.verdict = None
        self.stopped = None
        self._health = {}

    def on_train_begin(self, logs=None):
        views = self.probe() if callable(self.probe) else self.probe
        self._views = [tf.convert_to_tensor(view) for view in views]
        self._forward = tf.function(self._forward_everywhere)
        self.stopped = None
        if self.step and not self._health:
            self._health = _read_health(self.path, self.step)
            self.verdict = self._health.get("verdict")
        if not self._health:
            first = self.read({})
            self._health = {"first": {"step": self.step, **first}, "changes": []}
            self._write()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # The first logged step of an interval, also if the run was resumed within it.
        if self.step % self.log_every_steps == 0 and (
            self.step % self.every_steps < self.log_every_steps
        ):
            logs = {} if logs is None else logs
            logs.update(self.read(logs))
            self._judge(logs)

    def read(self, logs) -> dict[str, float]:
        """All readings, by their names in the logs; empty if features are not finite.

        Args:
            logs: the logs of the step, for `tau`.
        """
        with self.model.distribute_strategy.scope():
            features, weights = self._forward(*self._views)
        features = [np.asarray(x, np.float64) for x in features]
        if not all(np.isfinite(x).all() for x in features):
            return {}
        readings = representation.measure(*features)
        readings |= {name: float(value) for name, value in weights.items()}
        if self.batch_size and "tau" in logs:
            tau = float(logs["tau"])
            readings["monitor/ema_horizon"] = representation.ema_horizon(
                self.batch_size, tau
            )
        # JSON has finite numbers only.
        return {name: x for name, x in readings.items() if np.isfinite(x)}

    def _forward_everywhere(self, view1, view2):
        """Runs the probe on every replica and returns the result of the first one."""
        strategy = self.model.distribute_strategy
        results = strategy.run(self._forward_on_replica, args=(view1, view2))
        return tf.nest.map_structure(
            lambda x: strategy.experimental_local_results(x)[0], results
        )

    def _forward_on_replica(self, view1, view2):
        online, target = self.model.online, self.model.target
        # Inside this scope, moving statistics and seeds do not change.
        with keras.StatelessScope():
            h1, h2 = (online.represent(view, training=True) for view in (view1, view2))
            z1, z2 = (online.projector(h, training=True) for h in (h1, h2))
            target_z1 = target(view1, training=True)
        return (h1, h2, z1, z2, target_z1), _weight_readings(online, target)

    def _judge(self, readings):
        """Updates verdict, causes and `health.json`; prints a changed verdict."""
        verdict = representation.verdict(self._health["first"], readings)
        causes = likely_causes(self.model, self._health["first"], readings, verdict)
        self._health |= {
            "verdict": verdict,
            "causes": causes,
            "latest": {"step": self.step, **_monitored(readings)},
        }
        if verdict != self.verdict:
            self._health["changes"].append(
                {"step": self.step, "verdict": verdict, "causes": causes}
            )
            if workers.is_chief(self.model.distribute_strategy):
                print(_sentence(self.step, verdict, causes))
        self.verdict = verdict
        self._write()
        if verdict == "collapsed" and self.on_collapse == "stop":
            self.stopped = _sentence(self.step, verdict, causes)
            self.model.stop_training = True

    def _write(self):
        if self.path is None or not workers.is_chief(self.model.distribute_strategy):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(self._health, indent=1) + "\n")


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
    if not _monitored(latest):
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


def _weight_readings(online, target):
    """Norm and distance of the kernels; scales and offsets are left out."""
    pairs = [
        (tf.cast(a.value, tf.float32), tf.cast(b.value, tf.float32))
        for a, b in zip(online.weights, target.weights, strict=True)
        if len(a.shape) > 1
    ]
    norm = tf.linalg.global_norm([a for a, _ in pairs])
    distance = tf.linalg.global_norm([a - b for a, b in pairs])
    return {
        "monitor/weight_norm": norm,
        "monitor/weight_distance": tf.math.divide_no_nan(distance, norm),
    }


def _sentence(step, verdict, causes):
    sentence = f"health at step {step}: {verdict}"
    if not causes:
        return sentence
    link = "but" if verdict == "healthy" else "likely cause:"
    return f"{sentence}; {link} {'; '.join(causes)}"


def _monitored(readings):
    return {k: v for k, v in readings.items() if k.startswith("monitor/")}


def _read_health(path, step):
    """The content of `health.json` up to a step; empty if there is none."""
    if path is None or not path.exists():
        return {}
    health = json.loads(path.read_text())
    changes = [change for change in health["changes"] if change["step"] <= step]
    latest = changes[-1] if changes else {}
    return health | {"changes": changes, "verdict": latest.get("verdict")}
