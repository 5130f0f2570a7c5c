"""Checks of the configuration of a pre-training run, before any data are read.

Constructors check their own arguments. The rules here need several of them at once, or
check what the constructors of Keras do not.
"""

import inspect
import math
from collections.abc import Mapping

import keras

from byol_keras.byol import BYOL
from byol_keras.config import bindings, graph
from byol_keras.config.trial import Trial
from byol_keras.data import ImageData
from byol_keras.export import OtherChannels
from byol_keras.runtime import devices
from byol_keras.runtime.argument_checks import is_positive_int
from byol_keras.runtime.errors import Findings
from byol_keras.schedules import RunLength
from byol_keras.views import checks

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
    "gradient_accumulation_steps": (
        "must be None; use BYOL.accumulation_steps",
        lambda value: False,
    ),
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
    found.add(_out_of_range("train", settings, _OF_TRAIN))
    precision = settings["precision"]
    if isinstance(precision, str) and precision not in devices.PRECISIONS:
        rule = f"train.precision must be one of {devices.PRECISIONS}"
        found.add([f"{rule}. Received: {precision!r}"])
    if trial:
        _try(settings, found)
    found.raise_all()


def refuse_downloads() -> None:
    """Keeps the datasets of the configuration from downloading, for a dry run."""
    bindings.bind_everywhere("byol_keras.tfds_dataset", "download", False)


def _try(settings: dict, found: Findings) -> None:
    """Instantiates the parts of the run, and checks them with each other."""
    trial = Trial(ROOT, unlike=ImageData, found=found)
    batch_size, epochs = settings.get("batch_size"), settings.get("epochs")
    accumulation_steps, rates = 1, []
    model_fn = settings.get("model_fn")
    if inspect.isclass(model_fn) and issubclass(model_fn, BYOL):
        images = keras.Input((None, None, 3))
        features = keras.layers.GlobalAveragePooling2D()(images)
        model = trial.call("model_fn", backbone=keras.Model(images, features))
        accumulation_steps = model.accumulation_steps if model else 1
    if is_positive_int(batch_size) and is_positive_int(epochs):
        trial.call("target_ema_fn", total_steps=1000, batch_size=batch_size)
        with found.noted():
            # The number of images is not known before the data are read.
            length = RunLength(
                1000 * batch_size,
                batch_size,
                epochs,
                accumulation_steps,
                settings["last_batch"],
            )
            found.add(_few_images(batch_size, accumulation_steps))
            rates = _rates(trial.call("learning_rate_fn", run_length=length), length)
    optimizer = trial.call("optimizer_fn", learning_rate=0.1)
    found.add(checks.view_mistakes(trial.call("views_fn")))
    found.add(_rate_mistakes(rates, type(optimizer).__name__))
    own = {name: getattr(optimizer, name, None) for name in _OF_OPTIMIZERS}
    found.add(_out_of_range(type(optimizer).__name__, own, _OF_OPTIMIZERS))
    if found.lines:
        # Building a backbone is slow, and needed only if the run ends here. The number
        # of channels is not known before the data are read.
        trial.call_with_any("backbone_fn", "channels", (3, 1), unlike=OtherChannels)


def _few_images(batch_size, accumulation_steps) -> list[str]:
    least = 2 * accumulation_steps
    if batch_size >= least:
        return []
    return [
        f"train.batch_size must be at least 2 x accumulation_steps = {least}, since "
        f"BatchNormalization needs two images. Received: {batch_size}"
    ]


def _rates(schedule, length) -> list[float]:
    """Learning rates from the first to the last step; empty without a schedule."""
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return [schedule] if _is_number(schedule) else []
    last = length.total_steps - 1
    steps = sorted({round(last * percent / 100) for percent in range(101)})
    return [float(schedule(step)) for step in steps]


def _rate_mistakes(rates, optimizer: str) -> list[str]:
    highest = max(rates, default=1.0)
    if not all(0.0 <= rate < math.inf for rate in rates) or highest == 0.0:
        rule = "the learning rate must be positive and finite"
        return [f"{rule}. Received: {min(rates):g} to {highest:g}"]
    if rates and optimizer in ADAM_FAMILY and highest > ADAM_LIMIT:
        return [
            f"the learning rate must be at most {ADAM_LIMIT} with {optimizer}; LARS "
            f"and SGD take more. Received: up to {highest:.4g}, scaled to the batch"
        ]
    return []


def _out_of_range(owner: str, values: Mapping, rules: Mapping) -> list[str]:
    """Messages on the numbers among some settings that do not follow their rules."""
    return [
        f"{owner}.{name} {rule}. Received: {values[name]}"
        for name, (rule, is_kept) in rules.items()
        if _is_number(values.get(name)) and not is_kept(values[name])
    ]


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
