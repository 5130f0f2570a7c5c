"""Checks of the configuration of a pre-training run, before any data are read.

Constructors check their own arguments. The rules here need several of them at once, or
check what the constructors of Keras do not.
"""

import inspect
import math
from collections.abc import Callable, Iterator

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
# The arguments that `train` passes to the functions that gin binds.
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
_POSITIVE_INT = ("must be a positive int", lambda value: value >= 1)
_POSITIVE = ("must be positive", lambda value: value > 0)
_SHARE = ("must be in 0..1, 1 excluded", lambda value: 0 <= value < 1)
# Setting -> rule, and whether a number follows it.
_OF_TRAIN = {
    "epochs": _POSITIVE_INT,
    "batch_size": _POSITIVE_INT,
    "log_every_steps": _POSITIVE_INT,
    "seed": (f"must be in 0..{2**32 - 1}", lambda value: 0 <= value < 2**32),
}
_OF_OPTIMIZERS = {
    "weight_decay": ("must not be negative", lambda value: value >= 0),
    **dict.fromkeys(("beta_1", "beta_2", "rho"), _SHARE),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), _POSITIVE),
}


def check_configuration(trial: bool = True) -> None:
    """Checks the configuration of `train` that gin has parsed.

    Args:
        trial: bool. Instantiate everything but data and backbone, so that all errors of
            constructors are reported together. False where TensorFlow must not be used
            before its devices are set up: `devices.EARLY_STRATEGIES`.

    Raises:
        Mistakes: with a message for each mistake.
    """
    found = Findings(bindings.find_mistakes(ROOT, CALLS))
    settings = {}
    for name in (*_OF_TRAIN, "precision", "last_batch", "model_fn"):
        with found.noted():
            settings[name] = graph.value_of(ROOT, name)
    found.add([*_out_of_range("train", settings.get, _OF_TRAIN)])
    precision = settings["precision"]
    if isinstance(precision, str) and precision not in devices.PRECISIONS:
        rule = f"train.precision must be one of {devices.PRECISIONS}"
        found.add([f"{rule}. Received: {precision!r}"])
    if trial:
        tried = Trial(ROOT, unlike=ImageData, found=found)
        plan = _plan(tried, settings)
        found.add([line for rule in RULES for line in rule(plan)])
        if found.lines:
            # Building a backbone is slow, and needed only if the run ends here.
            tried.call("backbone_fn", channels=3)
    found.raise_all()


def refuse_downloads() -> None:
    """Keeps the datasets of the configuration from downloading, for a dry run."""
    bindings.bind_everywhere("byol_keras.tfds_dataset", "download", False)


def _plan(trial: Trial, settings: dict) -> Plan:
    """The parts of the run, except data and backbone."""
    batch_size, epochs = settings.get("batch_size"), settings.get("epochs")
    accumulation_steps, rates = 1, None
    model_fn = settings.get("model_fn")
    if inspect.isclass(model_fn) and issubclass(model_fn, BYOL):
        images = keras.Input((None, None, 3))
        features = keras.layers.GlobalAveragePooling2D()(images)
        model = trial.call("model_fn", backbone=keras.Model(images, features))
        accumulation_steps = model.accumulation_steps if model else 1
    if all(type(value) is int and value > 0 for value in (batch_size, epochs)):
        trial.call("target_ema_fn", total_steps=1000, batch_size=batch_size)
        with trial.found.noted():
            # The number of images is not known before the data are read.
            length = RunLength(
                1000 * batch_size,
                batch_size,
                epochs,
                accumulation_steps,
                settings["last_batch"],
            )
            rates = _rates(trial.call("learning_rate_fn", run_length=length), length)
    optimizer = trial.call("optimizer_fn", learning_rate=0.1)
    return Plan(trial.call("views_fn"), optimizer, rates)


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
    def value_of(name):
        return getattr(plan.optimizer, name, None)

    return _out_of_range(type(plan.optimizer).__name__, value_of, _OF_OPTIMIZERS)


def _out_of_range(owner: str, value_of: Callable, rules: dict) -> Iterator[str]:
    """Messages on the numbers among some settings that do not follow their rules."""
    for name, (rule, is_kept) in rules.items():
        value = value_of(name)
        if _is_number(value) and not is_kept(value):
            yield f"{owner}.{name} {rule}. Received: {value}"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


RULES = (
    _same_size,
    _blur_within_view,
    _views_of_a_size,
    _rates_of_the_optimizer,
    _settings_of_the_optimizer,
)
