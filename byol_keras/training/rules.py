"""Rules of a pre-training run, so that a mistake ends it before an epoch is spent.

Every constructor checks its own arguments; here is what needs several of them at once,
and what others' constructors leave unchecked.
"""

import inspect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from absl import logging

from byol_keras.byol import BYOL
from byol_keras.config import bindings
from byol_keras.config.trial import Trial
from byol_keras.data.image_data import ImageData
from byol_keras.runtime import cli
from byol_keras.runtime.errors import Findings
from byol_keras.schedules import RunLength
from byol_keras.views.augmentations import RandomApply
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale
from byol_keras.views.crops import RandomCrop

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
# A batch of larger views fits no accelerator, and a larger magnification shows only
# the pixels of the stored image.
LARGEST_VIEW = 2048
LARGEST_MAGNIFICATION = 8
_SHARES = ("beta_1", "beta_2", "rho")
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")


class Plan(NamedTuple):
    """What a run will be made of; None for what is not known or could not be made."""

    views: Any = None
    optimizer: keras.optimizers.Optimizer | None = None
    rates: list[float] | None = None
    data: ImageData | None = None

    @property
    def lists(self) -> dict[str, tuple]:
        """The layers of the views, with those that `RandomApply` holds, by name."""
        if not (hasattr(self.views, "view1") and hasattr(self.views, "view2")):
            return {}
        lists = {"view1": self.views.view1.layers, "view2": self.views.view2.layers}
        return {
            name: [x.layer if isinstance(x, RandomApply) else x for x in layers]
            for name, layers in lists.items()
        }

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width of a view."""
        sizes = [getattr(layer, "height_width", None) for layer in self.lists[name]]
        known = [size for size in sizes if size]
        return known[-1] if known else self.data and self.data.image_size


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


def check_data(views: Any, data: ImageData) -> None:
    """Checks the views against the data; warns of what has no effect.

    Raises:
        Mistakes: all that are found.
    """
    plan = Plan(views=views, data=data)
    Findings([line for rule in RULES_WITH_DATA for line in rule(plan)]).tell()
    for line in _without_effect(plan):
        logging.warning(line)


def _wrong_settings() -> Iterator[str]:
    """Arguments of `train` whose type is right, but whose value is not."""
    for name in ("epochs", "batch_size", "log_every_steps"):
        value = bindings.value_of(ROOT, name)
        if _is_number(value) and value < 1:
            yield f"train.{name} must be a positive int. Received: {value}"
    seed = bindings.value_of(ROOT, "seed")
    if _is_number(seed) and not 0 <= seed < 2**32:
        yield f"train.seed must be in 0..{2**32 - 1}. Received: {seed}"
    precision = bindings.value_of(ROOT, "precision")
    if isinstance(precision, str) and precision not in cli.PRECISIONS:
        rule = f"train.precision must be one of {cli.PRECISIONS}"
        yield f"{rule}. Received: {precision!r}"


def _plan(trial: Trial) -> Plan:
    """Makes all but the data and the backbone, which take time."""
    batch_size, epochs, last_batch = (
        bindings.value_of(ROOT, name) for name in ("batch_size", "epochs", "last_batch")
    )
    accumulation_steps, rates = 1, None
    model_fn = bindings.value_of(ROOT, "model_fn")
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


def _same_size(plan):
    sizes = {name: plan.size(name) for name in plan.lists}
    if len(set(sizes.values())) > 1 and None not in sizes.values():
        yield f"view1 and view2 must have the same size. Received: {sizes}"


def _blur_within_view(plan):
    for name, layers in plan.lists.items():
        size = plan.size(name)
        for layer in layers:
            radius = layer.radius if isinstance(layer, GaussianBlur) else None
            if radius and size and 2 * radius + 1 > min(size):
                yield (
                    "GaussianBlur.radius must give a kernel of 2 * radius + 1 pixels "
                    f"within {name} of {size}. Received: {radius}"
                )


def _views_of_a_size(plan):
    for name in plan.lists:
        size = plan.size(name)
        if size and max(size) > LARGEST_VIEW:
            rule = f"{name} must be at most {LARGEST_VIEW} pixels wide and high"
            yield f"{rule}. Received: {size}"


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


def _crops_of_any_size(plan):
    if plan.data.image_size is None:
        for name in plan.lists:
            findings = Findings()
            with findings.noted():
                getattr(plan.views, name).require_crop(name)
            yield from findings.lines


def _crops_within_images(plan):
    stored = plan.data.image_size
    for name, layers in plan.lists.items():
        size = plan.size(name)
        if not (stored and size):
            continue
        if isinstance(layers[0], RandomCrop) and (
            size[0] > stored[0] or size[1] > stored[1]
        ):
            yield f"RandomCrop.size must be within images of {stored}. Received: {size}"
        elif max(size) > LARGEST_MAGNIFICATION * max(stored):
            rule = f"{name} must be at most {LARGEST_MAGNIFICATION} times the images"
            yield f"{rule} of {stored}. Received: {size}"


def _without_effect(plan):
    channels = plan.data.channels
    if channels == 3:
        return
    layers = [layer for layers in plan.lists.values() for layer in layers]
    if channels == 1 and any(isinstance(layer, Grayscale) for layer in layers):
        yield "Grayscale does nothing to images of 1 channel"
    jitters = [layer for layer in layers if isinstance(layer, ColorJitter)]
    if any(layer.saturation or layer.hue for layer in jitters):
        yield (
            "ColorJitter.saturation and ColorJitter.hue do nothing to images of "
            f"{channels} channels"
        )


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
RULES_WITH_DATA = (_crops_of_any_size, _crops_within_images, _blur_within_view)
