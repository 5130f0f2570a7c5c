"""Pre-trains BYOL from gin files: builds what they name, checks it, and runs it.

    python -m byol_keras.train --gin_file=gin/pretrain/quickstart.gin --model_dir=DIR

The same command on the same folder resumes at the step of the newest checkpoint.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import gin
import keras
from absl import app, flags
from rich.console import Console

from byol_keras import gin_names  # noqa: F401
from byol_keras.callbacks import RunPosition
from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.checkpoints.signals import StopSignals
from byol_keras.config import operative, parse
from byol_keras.config.bindings import unused_line
from byol_keras.config.syntax import Origin
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard, load_dump
from byol_keras.report import Report
from byol_keras.results import provenance
from byol_keras.runtime import cli, run_folder, workers
from byol_keras.runtime.argument_checks import check_positive_ints
from byol_keras.runtime.devices import (
    EARLY_STRATEGIES,
    STRATEGIES,
    check_strategy,
    make_strategy,
    set_precision,
    set_seed,
)
from byol_keras.runtime.errors import Findings
from byol_keras.schedules import RunLength
from byol_keras.training import plan, rules
from byol_keras.training.build import Run, make_watchers
from byol_keras.training.run import execute, repeat
from byol_keras.views import checks


@gin.configurable(module="byol_keras")
def train(
    model_dir: str | None,
    strategy: str = "auto",
    dry_run: bool = False,
    allow_config_change: bool = False,
    replay: int | None = None,
    origin: Origin | None = None,
    *,
    dataset_fn: Callable = gin.REQUIRED,
    views_fn: Callable = gin.REQUIRED,
    backbone_fn: Callable = gin.REQUIRED,
    model_fn: Callable = gin.REQUIRED,
    optimizer_fn: Callable = gin.REQUIRED,
    learning_rate_fn: Callable = gin.REQUIRED,
    target_ema_fn: Callable = gin.REQUIRED,
    epochs: int = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    last_batch: str = "carry",
    seed: int = 0,
    precision: str = "float32",
    jit_compile: bool = False,
    deterministic: bool = False,
    log_every_steps: int = 20,
    callbacks: Sequence[Callable | keras.callbacks.Callback] = (),
    guard_fn: Callable | None = gin.get_configurable(NonfiniteGuard),
    doctor_fn: Callable | None = gin.get_configurable(CollapseDoctor),
    report_fn: Callable | None = gin.get_configurable(Report),
) -> None:
    """Pre-trains BYOL and exports its backbone into the run folder.

    Args:
        model_dir: run folder; not needed for a dry run.
        strategy: see `launch.make_strategy`.
        dry_run: print what would run, and stop.
        allow_config_change: resume also where that changes the result.
        replay: the step that a run in `model_dir` was stopped at; see `replay`.
        origin: what `launch.parse_gin` returned, for the report.
        dataset_fn: () -> `image_data.ImageData`.
        views_fn: () -> `views.TwoViews`.
        backbone_fn: (channels) -> `keras.Model`.
        model_fn: (backbone) -> `byol.BYOL`.
        optimizer_fn: (learning_rate) -> Keras optimizer.
        learning_rate_fn: (run_length) -> schedule or float.
        target_ema_fn: (total_steps, batch_size) -> `callbacks.TargetEMA`.
        epochs: int. Passes over the data.
        batch_size: int. Images per optimizer step, over all devices and micro-batches.
        last_batch: "carry" or "pad"; see `schedules.RunLength`.
        seed: int. Of initial weights, order of the data and augmentations.
        precision: Keras dtype policy; see `launch.set_precision`.
        jit_compile: bool. Compile the step with XLA.
        deterministic: bool. Only operations that give the same result every time; see
            `launch.set_seed`.
        log_every_steps: int. Steps between two lines of `metrics.jsonl`.
        callbacks: further Keras callbacks: () -> callback, as `[@OnlineProbe]`, or made
            already.
        guard_fn, doctor_fn: see `watchers.make_watchers`; None switches one off.
        report_fn: (model_dir, data, views, seed, pass_length) -> `report.Report`; None
            switches it off.
    """
    with cli.user_errors():
        counts = {"epochs": epochs, "batch_size": batch_size}
        counts |= {"log_every_steps": log_every_steps}
        check_positive_ints(**{f"train.{name}": n for name, n in counts.items()})
        set_precision(precision)
        # Several workers find each other before any of them uses TensorFlow.
        devices = make_strategy(strategy)
        set_seed(seed, deterministic)
        source, views = dataset_fn(), views_fn()
        checks.check_data(views, source)
        with devices.scope():
            model = model_fn(backbone_fn(channels=source.channels))
            length = RunLength(
                source.num_examples,
                batch_size,
                epochs,
                accumulation_steps=model.accumulation_steps,
                last_batch=last_batch,
            )
            _check_divisible(length, devices.num_replicas_in_sync)
            optimizer = optimizer_fn(learning_rate=learning_rate_fn(length))
            _compile(model, views, source, optimizer, jit_compile)
        ema = target_ema_fn(total_steps=length.total_steps, batch_size=batch_size)
        is_chief = workers.is_chief(devices)
        made = [_make_callback(callback, model) for callback in callbacks]
        made = [c for c in made if is_chief or not workers.is_for_chief(c)]
        position = RunPosition([length.step_at_epoch(n + 1) for n in range(epochs)])
        report = None
        if report_fn is not None and is_chief:
            order = {"seed": seed, "pass_length": length.pass_length}
            report = report_fn(model_dir=model_dir, data=source, views=views, **order)
        run = Run(
            strategy=devices,
            data=source,
            views=views,
            model=model,
            length=length,
            target_ema=ema,
            callbacks=made,
            position=position,
            seed=seed,
            precision=precision,
            log_every_steps=log_every_steps,
            report=report,
        )
        watchers = make_watchers(run, model_dir, guard_fn, doctor_fn)
        checkpoints = Checkpoints(
            model_dir or "",
            model,
            position,
            [*watchers, *made],
            StopSignals(),
            writes=is_chief,
        )
        _refuse_unused_bindings()
        rows = plan.rows(run)
        Console(quiet=not is_chief).print(plan.table(rows))
        if replay is not None and not dry_run:
            load_dump(model_dir, replay, model)
    if dry_run:
        return
    if replay is None:
        start = functools.partial(
            provenance.add_start, argv=sys.orig_argv, plan=rows, origin=origin
        )
        execute(run, watchers, checkpoints, model_dir, allow_config_change, start)
    else:
        print(repeat(run, replay))


def _compile(model, views, source, optimizer, jit_compile):
    model.augment = views.on_device if views.place == "device" else None
    if not model.built:  # its backbone does not know the shape of images
        model.build((None, *views.shape(source)))
    model.compile(optimizer=optimizer, jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)


def _make_callback(callback, model):
    if not isinstance(callback, keras.callbacks.Callback):
        callback = callback()
    # `fit` hands over the model too, but what does not fit it is to end here.
    callback.set_model(model)
    return callback


def _check_divisible(length, replicas):
    parts = replicas * length.accumulation_steps
    if length.batch_size % parts:
        raise ValueError(
            "train.batch_size must be divisible by replicas x accumulation_steps = "
            f"{replicas} x {length.accumulation_steps}. Received: {length.batch_size}"
        )


def _refuse_unused_bindings():
    Findings([unused_line(name) for name in operative.unused_bindings()]).tell()


def main(_):
    """Parses flags and gin, then trains."""
    model_dir, dry_run = flags.FLAGS.model_dir, flags.FLAGS.dry_run
    strategy = flags.FLAGS.strategy
    with cli.user_errors():
        found = Findings()
        with found.noted():
            check_strategy(strategy)
        with found.noted():
            if not dry_run:
                run_folder.check_model_dir(model_dir)
        with found.noted():
            origin = parse.parse_gin(flags.FLAGS.gin_file, flags.FLAGS.gin_param)
            is_early = strategy in EARLY_STRATEGIES
            rules.check_configuration(trial=not is_early)
        found.tell()
        if dry_run:
            operative.refuse_downloads()
    train(
        model_dir,
        strategy=strategy,
        dry_run=dry_run,
        allow_config_change=flags.FLAGS.allow_config_change,
        replay=flags.FLAGS.replay_step,
        origin=origin,
    )


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_string(
        "strategy", "auto", f"devices to train on: {', '.join(STRATEGIES)}."
    )
    flags.DEFINE_boolean("dry_run", False, "print what would run, and stop.")
    flags.DEFINE_boolean(
        "allow_config_change", False, "resume also where that changes the result."
    )
    flags.DEFINE_integer(
        "replay_step", None, "run this step again, which has stopped the run."
    )
    app.run(main, flags_parser=cli.parse_flags)
