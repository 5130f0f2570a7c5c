"""Builds what a configuration describes: a `Run`, checked, before its first step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from byol_keras.callbacks import HeadWarmup, RunPosition, TargetEMA
from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.checkpoints.signals import StopSignals
from byol_keras.keras_workarounds import check_optimizer
from byol_keras.monitoring.replay import describe_batch
from byol_keras.report import Report
from byol_keras.runtime import devices, workers
from byol_keras.runtime.argument_checks import check_int, check_positive_ints
from byol_keras.schedules import RunLength
from byol_keras.training.probe import Probe
from byol_keras.training.source import Source, find_source, take_over
from byol_keras.views import TwoViews, checks


@dataclasses.dataclass(frozen=True)
class Settings:
    """Numbers and switches of a run; `train.train` documents each.

    Raises:
        ValueError: if a count is not a positive int, or the warm-up of the heads is not
            shorter than the run, or meets heads that are trained.
    """

    epochs: int
    batch_size: int
    last_batch: str
    seed: int
    precision: str
    jit_compile: bool
    deterministic: bool
    log_every_steps: int
    start_from: str | None = None
    head_warmup_epochs: int = 0

    def __post_init__(self):
        names = ("epochs", "batch_size", "log_every_steps")
        check_positive_ints(**{f"train.{name}": getattr(self, name) for name in names})
        warmup = self.head_warmup_epochs
        check_int("train.head_warmup_epochs", warmup, least=0)
        if warmup >= self.epochs:
            raise ValueError(
                "train.head_warmup_epochs must be smaller than train.epochs "
                f"({self.epochs}). Received: {warmup}"
            )
        if warmup and self.start_from is not None:
            raise ValueError(
                "train.head_warmup_epochs must be 0 with train.start_from, whose heads "
                f"are trained. Received: {warmup}"
            )


@dataclasses.dataclass(frozen=True)
class Factories:
    """Functions that return the parts of a run; `train.train` documents each."""

    dataset_fn: Callable
    views_fn: Callable
    backbone_fn: Callable
    model_fn: Callable
    optimizer_fn: Callable
    learning_rate_fn: Callable
    target_ema_fn: Callable
    callbacks: Sequence[Callable | keras.callbacks.Callback]
    guard_fn: Callable | None
    doctor_fn: Callable | None
    report_fn: Callable | None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has been built and checked.

    Attributes:
        settings: of the configuration.
        strategy: `tf.distribute` strategy that owns the variables.
        data: `ImageData` of the whole dataset.
        views: draws the two views of every image.
        model: compiled and built.
        length: in optimizer steps.
        position: current step and epoch; the first callback of the run.
        target_ema: moves the target.
        source: networks that the run starts from, without their arrays; None for a run
            that resumes or starts by itself.
        head_warmup: holds the backbone at first; None without it.
        callbacks: further callbacks of the configuration.
        watchers: callbacks that may stop the run: guard and doctor.
        checkpoints: saves and restores the state.
        report: writes the HTML page; None where it is off.
    """

    settings: Settings
    strategy: tf.distribute.Strategy
    data: Any
    views: TwoViews
    model: keras.Model
    length: RunLength
    position: RunPosition
    target_ema: TargetEMA
    source: Source | None
    head_warmup: HeadWarmup | None
    callbacks: Sequence[keras.callbacks.Callback]
    watchers: Sequence[keras.callbacks.Callback] = ()
    checkpoints: Checkpoints | None = None
    report: Report | None = None


def build_run(
    model_dir: str | None, strategy: str, parts: Factories, settings: Settings
) -> Run:
    """Builds all parts of a run, in the order in which they need each other.

    Args:
        model_dir: path of the run folder; None for a dry run.
        strategy: name of the strategy; see `devices.make_strategy`.
        parts: functions that return the parts.
        settings: of the run.

    Raises:
        ValueError: if a part refuses its arguments, or two parts do not fit together.
    """
    devices.set_precision(settings.precision)
    # Workers must connect before any of them uses TensorFlow.
    replicas = devices.make_strategy(strategy)
    devices.set_seed(settings.seed, settings.deterministic)
    source = find_source(settings.start_from, model_dir)
    data, views = parts.dataset_fn(), parts.views_fn()
    checks.check_data(views, data)
    with replicas.scope():
        model, length = _compiled_model(parts, settings, data, views, source)
    target_ema = parts.target_ema_fn(
        total_steps=length.total_steps, batch_size=length.batch_size
    )
    ends = [length.step_at_epoch(epoch + 1) for epoch in range(length.epochs)]
    run = Run(
        settings,
        replicas,
        data,
        views,
        model,
        length,
        RunPosition(ends),
        target_ema,
        source and source._replace(arrays={}),
        _head_warmup(settings, length, model),
        callbacks=_make_callbacks(parts.callbacks, model),
    )
    return _with_writers(run, parts, model_dir)


def _head_warmup(settings, length, model):
    if not settings.head_warmup_epochs:
        return None
    warmup = HeadWarmup(length.step_at_epoch(settings.head_warmup_epochs))
    try:
        # `fit` sets the model too, but a model that it refuses must fail now.
        warmup.set_model(model)
    except ValueError as error:
        raise ValueError(
            "train.head_warmup_epochs must be 0 for a backbone at random, with which "
            f"the target does not start. Received: {settings.head_warmup_epochs}"
        ) from error
    return warmup


def _compiled_model(parts, settings, data, views, source):
    """The model with its optimizer, and the length of the run in its steps."""
    model = parts.model_fn(parts.backbone_fn(channels=data.channels))
    length = RunLength(
        data.num_examples,
        settings.batch_size,
        settings.epochs,
        accumulation_steps=model.accumulation_steps,
        last_batch=settings.last_batch,
    )
    strategy = tf.distribute.get_strategy()
    _check_shares(length, strategy.num_replicas_in_sync)
    optimizer = parts.optimizer_fn(learning_rate=parts.learning_rate_fn(length))
    model.augment = views.on_device if views.place == "device" else None
    if not model.built:  # its backbone does not fix the shape of images
        model.build((None, *views.shape(data)))
    if source is not None:
        take_over(model, source, views.shape(data))
    check_optimizer(optimizer, strategy)
    model.compile(optimizer=optimizer, jit_compile=settings.jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model, length


def _check_shares(length, replicas):
    shares = replicas * length.accumulation_steps
    product = (
        f"replicas x accumulation_steps = {replicas} x {length.accumulation_steps}"
    )
    if length.batch_size % shares:
        raise ValueError(
            f"train.batch_size must be divisible by {product}. "
            f"Received: {length.batch_size}"
        )
    if length.batch_size < 2 * shares:
        raise ValueError(
            f"train.batch_size must be at least two images times {product}, since "
            f"BatchNormalization needs two. Received: {length.batch_size}"
        )


def _make_callbacks(callbacks, model):
    """The callbacks of this process; functions are called to make theirs."""
    made = []
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            callback = callback()
        # `fit` sets the model too, but a callback that refuses it must fail now.
        callback.set_model(model)
        made.append(callback)
    is_chief = workers.is_chief(model.distribute_strategy)
    return [c for c in made if is_chief or not workers.is_for_chief(c)]


def _with_writers(run, parts, model_dir):
    """The run with all parts that write into the run folder."""
    is_chief = workers.is_chief(run.strategy)
    order = {"seed": run.settings.seed, "pass_length": run.length.pass_length}
    watchers, report = [], None
    if parts.guard_fn is not None:
        watchers.append(_make_guard(run, parts.guard_fn, model_dir, order))
    if parts.doctor_fn is not None:
        watchers.append(_make_doctor(run, parts.doctor_fn, model_dir, order))
    if parts.report_fn is not None and is_chief:
        report = parts.report_fn(
            model_dir=model_dir, data=run.data, views=run.views, **order
        )
    checkpoints = Checkpoints(
        model_dir or "",
        run.model,
        run.position,
        [*watchers, *run.callbacks],
        StopSignals(),
        writes=is_chief,
    )
    return dataclasses.replace(
        run, watchers=watchers, checkpoints=checkpoints, report=report
    )


def _make_guard(run, guard_fn, model_dir, order):
    return guard_fn(
        every_steps=run.settings.log_every_steps,
        model_dir=model_dir,
        describe=functools.partial(
            describe_batch, run.data, batch_size=run.length.batch_size, **order
        ),
    )


def _make_doctor(run, doctor_fn, model_dir, order):
    probe = Probe(run, **order)
    return doctor_fn(
        probe=probe.views,
        shortcuts=probe.shortcuts,
        batch_size=run.length.batch_size,
        log_every_steps=run.settings.log_every_steps,
        model_dir=model_dir,
    )
