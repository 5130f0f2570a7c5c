"""Rules of a pre-training run, so that a mistake ends it before an epoch is spent.

Every constructor checks its own arguments; here is what needs several of them at once,
and what others' constructors leave unchecked.
"""

import inspect
import math
from collections.abc import Iterator

import keras

from byol_keras.byol import BYOL
from byol_keras.config import bindings, graph
from byol_keras.config.trial import Trial
from byol_keras.data.image_data import ImageData
from byol_keras.runtime import devices
from byol_keras.runtime.errors import Findings
from byol_keras.schedules import RunLength
from byol_keras.views.checks import (
    Plan,
    _blur_within_view,
    _same_size,
    _views_of_a_size,
)

ROOT = "byol_keras.train"
# What the command line gives the root, and the root the functions that it calls.
GIVEN = (
    "model_dir",
    "strategy",
    "dry_run",
    "allow_config_change",
    "replay",
    "origin",
)
CALLS = {
    "dataset_fn": (),
    "views_fn": (),
    "backbone_fn": ("channels",),
    "model_fn": ("backbone",),
    "optimizer_fn": ("learning_rate",),
    "learning_rate_fn": ("run_length",),
    "target_ema_fn": ("total_steps", "batch_size"),
    "guard_fn": ("every_steps", "model_dir", "describe"),
    "doctor_fn": ("probe", "batch_size", "log_every_steps", "model_dir"),
    "report_fn": ("model_dir", "data", "views", "seed", "pass_length"),
}
# The length of their steps does not follow that of the gradient, so that rates which
# LARS and SGD need make the weights explode.
ADAM_FAMILY = ("Adam", "AdamW", "Lion")
ADAM_LIMIT = 0.02
_SHARES = ("beta_1", "beta_2", "rho")
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")


def check_configuration(trial: bool = True) -> None:
    """Checks what gin has parsed for `train`, before any data are read.

    Args:
        trial: bool. Make what the configuration names, but for data and backbone, to
            hear of all that constructors refuse. False where TensorFlow must not be
            used before its devices are set up: `launch.EARLY_STRATEGIES`.

    Raises:
        Mistakes: all that are found.
    """
    found = Findings(bindings.find_mistakes(ROOT, GIVEN, CALLS))
    found.add([*_wrong_settings()])
    if trial:
        _try(found)
    found.tell()


def _try(found: Findings) -> None:
    trial = Trial(ROOT, unlike=ImageData, found=found)
    plan = _plan(trial)
    found.add([line for rule in RULES for line in rule(plan)])
    if found.lines:
        # It takes its time, but now there is something to tell with it.
        trial.call("backbone_fn", channels=3)


def _wrong_settings() -> Iterator[str]:
    """Arguments of `train` whose type is right, but whose value is not."""
    for name in ("epochs", "batch_size", "log_every_steps"):
        value = graph.value_of(ROOT, name)
        if _is_number(value) and value < 1:
            yield f"train.{name} must be a positive int. Received: {value}"
    seed = graph.value_of(ROOT, "seed")
    if _is_number(seed) and not 0 <= seed < 2**32:
        yield f"train.seed must be in 0..{2**32 - 1}. Received: {seed}"
    precision = graph.value_of(ROOT, "precision")
    if isinstance(precision, str) and precision not in devices.PRECISIONS:
        rule = f"train.precision must be one of {devices.PRECISIONS}"
        yield f"{rule}. Received: {precision!r}"


def _plan(trial: Trial) -> Plan:
    """Makes all but the data and the backbone, which take time."""
    batch_size, epochs, last_batch = (
        graph.value_of(ROOT, name) for name in ("batch_size", "epochs", "last_batch")
    )
    accumulation_steps, rates = 1, None
    model_fn = graph.value_of(ROOT, "model_fn")
    if inspect.isclass(model_fn) and issubclass(model_fn, BYOL):
        model = trial.call("model_fn", backbone=_small_backbone())
        accumulation_steps = model.accumulation_steps if model else 1
    if all(type(value) is int and value > 0 for value in (batch_size, epochs)):
        trial.call("target_ema_fn", total_steps=1000, batch_size=batch_size)
        with trial.found.noted():
            # So many images for now: the data are not read yet.
            length = RunLength(
                1000 * batch_size, batch_size, epochs, accumulation_steps, last_batch
            )
            rates = _rates(trial.call("learning_rate_fn", run_length=length), length)
    optimizer = trial.call("optimizer_fn", learning_rate=0.1)
    return Plan(trial.call("views_fn"), optimizer, rates)


def _small_backbone():
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def _rates(schedule, length):
    """Learning rates from the first to the last step; None if there is no schedule."""
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return [schedule] if _is_number(schedule) else None
    last = length.total_steps - 1
    steps = sorted({round(last * percent / 100) for percent in range(101)})
    return [float(schedule(step)) for step in steps]


def _rates_of_the_optimizer(plan):
    if not plan.rates:
        return
    highest, name = max(plan.rates), type(plan.optimizer).__name__
    if not all(0.0 <= rate < math.inf for rate in plan.rates) or highest == 0.0:
        yield (
            "the learning rate must be positive and finite. "
            f"Received: {min(plan.rates):g} to {highest:g}"
        )
    elif name in ADAM_FAMILY and highest > ADAM_LIMIT:
        yield (
            f"the learning rate must be at most {ADAM_LIMIT} with {name}; LARS and SGD "
            f"take more. Received: up to {highest:.4g}, scaled to the batch"
        )


def _settings_of_the_optimizer(plan):
    name = type(plan.optimizer).__name__
    decay = getattr(plan.optimizer, "weight_decay", None)
    if _is_number(decay) and not decay >= 0:
        yield f"{name}.weight_decay must not be negative. Received: {decay}"
    for setting in _SHARES:
        value = getattr(plan.optimizer, setting, None)
        if _is_number(value) and not 0 <= value < 1:
            yield f"{name}.{setting} must be in 0..1, 1 excluded. Received: {value}"
    for setting in _CLIPS:
        value = getattr(plan.optimizer, setting, None)
        if _is_number(value) and not value > 0:
            yield f"{name}.{setting} must be positive. Received: {value}"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What is checked before the data are read, and with them.
RULES = (
    _same_size,
    _blur_within_view,
    _views_of_a_size,
    _rates_of_the_optimizer,
    _settings_of_the_optimizer,
)
