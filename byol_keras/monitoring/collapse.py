"""Collapse detection: measures the representation while BYOL trains."""

import json
import math

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.monitoring import representation, shortcut_verdict
from byol_keras.monitoring.causes import likely_causes, monitored
from byol_keras.runtime import workers
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder

ON_COLLAPSE = ("warn", "stop")


@gin.register(module="byol_keras")
class CollapseDoctor(keras.callbacks.Callback):
    """Measures the representation of fixed images at intervals and gives a verdict.

    The callback only reads: the trained weights are bit for bit those of a run without
    it. BatchNormalization uses the statistics of the probe, as in a training step, so
    that moving averages that have not settled cause no false alarm. Shortcuts are read
    in inference mode and without augmentation, as the representation will be used.

    Adds to the logs, at the first logged step of every interval: the quantities of
    `representation.measure`; `monitor/weight_distance`, the distance between the target
    and the online weights relative to the norm of the latter; `monitor/weight_norm`;
    `monitor/ema_horizon`, in images; and, with `shortcuts`, those of
    `shortcuts.ShortcutReader`.

    A change of the verdict is printed, and so are shortcuts that the representation
    relies on. `health.json` in the run folder holds the first and the latest reading,
    the verdict with its likely causes, all changes, and the shortcuts in words.

    Args:
        probe: `(view1, view2)`, each float32 `[N, S, S, C]` in 0..1, or a function
            without arguments that returns them. A few hundred images are enough.
        batch_size: optional int. Images per step of the run, for `ema_horizon`.
        every_steps: int. Steps between two readings.
        log_every_steps: int. Steps between two lines of the log.
        on_collapse: "warn", or "stop" to end the run.
        model_dir: optional path of the run folder.
        shortcuts: optional `shortcuts.ShortcutReader`, or a function without arguments
            that returns one or None. It is not used in a run that is shorter than
            `every_steps`.

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
        shortcuts=None,
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
        self.shortcuts = shortcuts
        self.step = 0
        self.verdict = None
        self.stopped = None
        self._health = {}
        self._printed = set()

    def on_train_begin(self, logs=None):
        views = self.probe() if callable(self.probe) else self.probe
        self._reader = self._make_reader()
        plain = [self._reader.images] if self._reader else []
        self._images = [tf.convert_to_tensor(part) for part in (*views, *plain)]
        self._forward = tf.function(self._forward_everywhere)
        self.stopped = None
        if self.step and not self._health:
            self._health = _read_health(self.path, self.step)
            self.verdict = self._health.get("verdict")
        # A fact near a threshold is printed once.
        self._printed |= {*self._health.get("shortcuts", ())}
        if not self._health:
            first = self.read({})
            self._health = {"first": {"step": self.step, **first}, "changes": []}
            self._write()

    def _make_reader(self):
        steps = self.params.get("steps") or math.inf
        if steps * self.params["epochs"] < self.every_steps:
            return None  # there will be no reading to compare with the first
        return self.shortcuts() if callable(self.shortcuts) else self.shortcuts

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
            features, weights = self._forward(*self._images)
        features = [np.asarray(x, np.float64) for x in features]
        if not all(np.isfinite(x).all() for x in features):
            return {}
        readings = representation.measure(*features[:5])
        if self._reader:
            readings |= self._reader.read(features[5])
        readings |= {name: float(value) for name, value in weights.items()}
        if self.batch_size and "tau" in logs:
            tau = float(logs["tau"])
            readings["monitor/ema_horizon"] = representation.ema_horizon(
                self.batch_size, tau
            )
        # JSON has finite numbers only.
        return {name: x for name, x in readings.items() if np.isfinite(x)}

    def _forward_everywhere(self, *images):
        """Runs the probe on every replica and returns the result of the first one."""
        strategy = self.model.distribute_strategy
        results = strategy.run(self._forward_on_replica, args=images)
        return tf.nest.map_structure(
            lambda x: strategy.experimental_local_results(x)[0], results
        )

    def _forward_on_replica(self, view1, view2, plain=None):
        online, target = self.model.online, self.model.target
        # Inside this scope, moving statistics and seeds do not change.
        with keras.StatelessScope():
            h1, h2 = (online.represent(view, training=True) for view in (view1, view2))
            z1, z2 = (online.projector(h, training=True) for h in (h1, h2))
            target_z1 = target(view1, training=True)
        features = [h1, h2, z1, z2, target_z1]
        if plain is not None:
            # In a scope of its own, without the statistics of the scope above.
            with keras.StatelessScope():
                features.append(online.represent(plain, training=False))
        return features, _weight_readings(online, target)

    def _judge(self, readings):
        """Updates verdict, causes and `health.json`; prints a changed verdict."""
        verdict = representation.verdict(self._health["first"], readings)
        causes = likely_causes(self.model, self._health["first"], readings, verdict)
        self._health |= {
            "verdict": verdict,
            "causes": causes,
            "latest": {"step": self.step, **monitored(readings)},
        }
        if verdict != self.verdict:
            self._health["changes"].append(
                {"step": self.step, "verdict": verdict, "causes": causes}
            )
            if workers.is_chief(self.model.distribute_strategy):
                print(_sentence(self.step, verdict, causes))
        self.verdict = verdict
        if self._reader:
            self._note_shortcuts(readings)
        self._write()
        if verdict == "collapsed" and self.on_collapse == "stop":
            self.stopped = _sentence(self.step, verdict, causes)
            self.model.stop_training = True

    def _note_shortcuts(self, readings):
        """Updates the shortcuts in `health.json`; prints those that are new."""
        survival = self._reader.survival
        found = shortcut_verdict.sentences(self._health["first"], readings, survival)
        self._health |= {"survival": survival, "shortcuts": found}
        if workers.is_chief(self.model.distribute_strategy):
            for fact in [fact for fact in found if fact not in self._printed]:
                print(f"shortcut at step {self.step}: {found[fact]}")
        self._printed |= {*found}

    def _write(self):
        if self.path is None or not workers.is_chief(self.model.distribute_strategy):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(self._health, indent=1) + "\n")


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


def _read_health(path, step):
    """The content of `health.json` up to a step; empty if there is none."""
    if path is None or not path.exists():
        return {}
    health = json.loads(path.read_text())
    changes = [change for change in health["changes"] if change["step"] <= step]
    latest = changes[-1] if changes else {}
    return health | {"changes": changes, "verdict": latest.get("verdict")}
