"""Pre-trains BYOL from gin files: data, model, callbacks, fit, export.

    python -m byol_keras.train --gin_file=gin/pretrain/quickstart.gin --model_dir=DIR

The same command on the same folder resumes after the last whole epoch.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gin
import keras
import tensorflow as tf
from absl import app, flags
from rich.console import Console
from rich.table import Table

from byol_keras import (
    augmentations,  # noqa: F401, registers names for gin
    augmented_view,  # noqa: F401
    backbones,  # noqa: F401
    benchmarks,  # noqa: F401
    blurs,  # noqa: F401
    byol,  # noqa: F401
    colors,  # noqa: F401
    crops,  # noqa: F401
    data,  # noqa: F401
    evaluation_callbacks,  # noqa: F401
    externals,  # noqa: F401
    labelled_lists,  # noqa: F401
    launch,
    optimizers,  # noqa: F401
    subsets,  # noqa: F401
    validation,
)
from byol_keras.augmented_view import cores
from byol_keras.bad_images import TooManyBadImages, listed_in
from byol_keras.callbacks import EpochEnds, TargetEMA
from byol_keras.checkpoints import Checkpoints, SaveEachEpoch
from byol_keras.export import export_backbone
from byol_keras.gin_bindings import unused_line
from byol_keras.meter import Meter, flops_of_step, peak_flops
from byol_keras.mistakes import Findings
from byol_keras.run_log import MetricsLog, Progress
from byol_keras.schedules import RunLength
from byol_keras.views import TwoViews

EXIT_INTERRUPTED = 130


class Run(NamedTuple):
    """What the configuration stands for, built and checked, before any step."""

    data: Any
    views: TwoViews
    model: keras.Model
    length: RunLength
    target_ema: TargetEMA


@gin.configurable(module="byol_keras")
def train(
    model_dir: str | None,
    strategy: str = "auto",
    dry_run: bool = False,
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
    log_every_steps: int = 20,
    callbacks: Sequence[Callable | keras.callbacks.Callback] = (),
) -> None:
    """Pre-trains BYOL and exports its backbone into the run folder.

    Args:
        model_dir: run folder; not needed for a dry run.
        strategy: see `launch.make_strategy`.
        dry_run: print what would run, and stop.
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
        log_every_steps: int. Steps between two lines of `metrics.jsonl`.
        callbacks: further Keras callbacks: () -> callback, as `[@OnlineProbe]`, or made
            already.
    """
    console = Console()
    with launch.user_errors():
        _check_ints(
            epochs=epochs, batch_size=batch_size, log_every_steps=log_every_steps
        )
        launch.set_precision(precision)
        keras.utils.set_random_seed(seed)
        scope = launch.make_strategy(strategy)
        source, views = dataset_fn(), views_fn()
        validation.check_data(views, source)
        with scope.scope():
            model = model_fn(backbone_fn(channels=source.channels))
            length = RunLength(
                source.num_examples,
                batch_size,
                epochs,
                accumulation_steps=model.accumulation_steps,
                last_batch=last_batch,
            )
            _check_divisible(length, scope.num_replicas_in_sync)
            model.augment = views.on_device if views.place == "device" else None
            optimizer = optimizer_fn(learning_rate=learning_rate_fn(length))
            model.compile(optimizer=optimizer, jit_compile=jit_compile)
            model.optimizer.build(model.trainable_variables)
        callbacks = [_make_callback(callback, model) for callback in callbacks]
        target_ema = target_ema_fn(
            total_steps=length.total_steps, batch_size=batch_size
        )
        run = Run(source, views, model, length, target_ema)
        _refuse_unused_bindings()
        console.print(_summary(run, scope, precision))
        if dry_run:
            return
        folder = launch.make_run_folder(model_dir)
        checkpoints = Checkpoints(folder / "checkpoints", model)
        step = checkpoints.restore()
        dataset = views.dataset(
            source,
            batch_size,
            seed,
            start=step * batch_size,
            pass_length=length.pass_length,
        )
    launch.write_text(folder / "operative_config.gin", gin.operative_config_str())
    if step:
        console.print(f"resuming at step {step} of {length.total_steps}")
    if step < length.total_steps:
        with (
            launch.user_errors((TooManyBadImages,)),
            listed_in(folder / "bad_images.txt"),
        ):
            meter = _meter(run, dataset, step, precision, log_every_steps)
            dataset, callbacks = meter.timed(dataset), [*callbacks, meter]
            _fit(run, dataset, step, folder, checkpoints, log_every_steps, callbacks)
            if meter.verdict():
                console.print(meter.verdict())
    export_backbone(model.online.backbone, folder / "export")
    console.print(f"backbone exported to {folder / 'export'}")


def _meter(run, dataset, step, precision, every_steps):
    spec = dataset.element_spec
    if run.model.augment:
        spec = dataset.map(run.model.augment).element_spec
    _, *image_size, channels = spec[0].shape
    flops = flops_of_step(run.model, image_size, channels)
    peak = peak_flops(precision)
    return Meter(run.length.batch_size, every_steps, flops, peak, first_step=step)


def _make_callback(callback, model):
    if not isinstance(callback, keras.callbacks.Callback):
        callback = callback()
    # `fit` hands over the model too, but what does not fit it is to end here.
    callback.set_model(model)
    return callback


def _fit(run, dataset, step, folder, checkpoints, log_every_steps, callbacks):
    length = run.length
    epoch_ends = [length.step_at_epoch(epoch + 1) for epoch in range(length.epochs)]
    epoch_ends[-1] = length.total_steps
    ends = EpochEnds(epoch_ends, step)
    log = {"first_step": step, "batch_size": length.batch_size}
    log["every_steps"] = log_every_steps
    with _interruptible(folder):
        run.model.fit(
            dataset,
            initial_epoch=length.epoch_of_step(step),
            epochs=length.epochs,
            steps_per_epoch=ends.longest_epoch,
            shuffle=False,  # the dataset has its own, reproducible order
            verbose=0,
            callbacks=[
                ends,
                run.target_ema,
                *callbacks,
                MetricsLog(folder, **log),
                SaveEachEpoch(checkpoints, epoch_ends),
                Progress(length.total_steps, epochs=length.epochs, **log),
            ],
        )


@contextlib.contextmanager
def _interruptible(folder):
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the same command with --model_dir={folder} resumes after "
            "the last whole epoch",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERRUPTED)


def _check_ints(**values):
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"train.{name} must be a positive int. Received: {value!r}"
            )


def _check_divisible(length, replicas):
    parts = replicas * length.accumulation_steps
    if length.batch_size % parts:
        raise ValueError(
            "train.batch_size must be divisible by replicas x accumulation_steps = "
            f"{replicas} x {length.accumulation_steps}. Received: {length.batch_size}"
        )


def _refuse_unused_bindings():
    Findings([unused_line(name) for name in launch.unused_bindings()]).tell()


def _summary(run, strategy, precision) -> Table:
    """What will run, for the console and for --dry_run."""
    length, model = run.length, run.model
    rates = [_learning_rate(model.optimizer, step) for step in _probe_steps(length)]
    taus = [float(run.target_ema.tau(step)) for step in _probe_steps(length)]
    size = run.data.image_size or ("any", "any")
    replicas = strategy.num_replicas_in_sync
    micro_batch = length.batch_size // (replicas * length.accumulation_steps)
    rows = {
        "data": f"{run.data.name}: {run.data.num_examples} images of "
        f"{size[0]} x {size[1]} x {run.data.channels}",
        "steps": f"{length.total_steps} = {length.epochs} epochs of about "
        f"{length.total_steps / length.epochs:.1f}",
        "batch": f"{length.batch_size} = {replicas} replicas x "
        f"{length.accumulation_steps} accumulated x {micro_batch}",
        "optimizer": type(_inner(model.optimizer)).__name__,
        "learning rate": _at_probes(rates),
        "tau": _at_probes(taus),
        "parameters": f"backbone {_count(model.online.backbone):,}, projector "
        f"{_count(model.online.projector):,}, predictor {_count(model.predictor):,}",
        "devices": ", ".join(_devices(strategy)),
        "precision": precision,
        "views": f"on the {run.views.place}, {cores()} CPU threads",
        "exact resume": "on"
        if run.views.stateless
        else "off: a stock layer draws random numbers of its own",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _devices(strategy):
    """Names of the devices that train, behind the strategy where one is at work."""
    if strategy.num_replicas_in_sync > 1:
        return [type(strategy).__name__, *strategy.extended.worker_devices]
    return [device.name for device in launch.accelerators()[:1]]


def _probe_steps(length):
    return (
        0,
        length.total_steps // 10,
        length.total_steps // 2,
        length.total_steps - 1,
    )


def _at_probes(values):
    return "{:.4g} first, {:.4g} at 10 %, {:.4g} half-way, {:.4g} last".format(*values)


def _inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def _learning_rate(optimizer, step):
    rate = _inner(optimizer)._learning_rate
    schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    return float(rate(step) if schedule else rate)


def _count(model):
    return sum(int(tf.size(variable)) for variable in model.trainable_variables)


def main(_):
    """Parses flags and gin, then trains."""
    model_dir, dry_run = flags.FLAGS.model_dir, flags.FLAGS.dry_run
    strategy = flags.FLAGS.strategy
    with launch.user_errors():
        found = Findings()
        with found.noted():
            launch.check_strategy(strategy)
        with found.noted():
            if not dry_run:
                launch.check_model_dir(model_dir)
        with found.noted():
            launch.parse_gin(flags.FLAGS.gin_file, flags.FLAGS.gin_param)
            is_early = strategy in launch.EARLY_STRATEGIES
            validation.check_configuration(trial=not is_early)
        found.tell()
        if dry_run:
            launch.refuse_downloads()
    train(model_dir, strategy=strategy, dry_run=dry_run)


if __name__ == "__main__":
    launch.define_flags()
    flags.DEFINE_string(
        "strategy", "auto", f"devices to train on: {', '.join(launch.STRATEGIES)}."
    )
    flags.DEFINE_boolean("dry_run", False, "print what would run, and stop.")
    app.run(main, flags_parser=launch.parse_flags)
