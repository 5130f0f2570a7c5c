"""The guard and the doctor of a run of the command line."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from byol_keras.callbacks import RunPosition, TargetEMA
from byol_keras.monitoring.replay import describe_batch
from byol_keras.report import Report
from byol_keras.schedules import RunLength
from byol_keras.views import TwoViews

# What the doctor looks at: the images of a step, or so many where a step has more.
MOST_PROBE_IMAGES = 256


def make_watchers(
    run,
    model_dir: str | None,
    guard_fn: Callable | None,
    doctor_fn: Callable | None,
) -> list:
    """The callbacks that may end a run: guard and doctor, in this order.

    Args:
        run: `run.Run`.
        model_dir: path of the run folder.
        guard_fn: (every_steps, model_dir, describe) -> `guards.NonfiniteGuard`, or None
            for a run without one.
        doctor_fn: (probe, batch_size, log_every_steps, model_dir) ->
            `doctor.CollapseDoctor`, or None for a run without one.
    """
    length, watchers = run.length, []
    order = {"seed": run.seed, "pass_length": length.pass_length}
    if guard_fn is not None:
        describe = functools.partial(
            describe_batch, run.data, batch_size=length.batch_size, **order
        )
        guard = guard_fn(
            every_steps=run.log_every_steps, model_dir=model_dir, describe=describe
        )
        watchers.append(guard)
    if doctor_fn is not None:
        doctor = doctor_fn(
            probe=functools.partial(_first_views, run, **order),
            batch_size=length.batch_size,
            log_every_steps=run.log_every_steps,
            model_dir=model_dir,
        )
        watchers.append(doctor)
    return watchers


def _first_views(run, **order):
    """Both views of the run's first images."""
    count = min(run.length.batch_size, MOST_PROBE_IMAGES)
    return run.model.views_of(next(iter(run.views.dataset(run.data, count, **order))))


class Run(NamedTuple):
    """What the configuration stands for, built and checked, before any step."""

    strategy: tf.distribute.Strategy
    data: Any
    views: TwoViews
    model: keras.Model
    length: RunLength
    target_ema: TargetEMA
    callbacks: list[keras.callbacks.Callback]
    position: RunPosition
    seed: int
    precision: str
    log_every_steps: int
    report: Report | None
