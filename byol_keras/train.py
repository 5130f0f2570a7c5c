"""Pre-trains BYOL as gin files configure it.

    python -m byol_keras.train --gin_file=gin/pretrain/quickstart.gin --model_dir=DIR

The same command on the same folder resumes at the step of the newest checkpoint.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import gin
import keras
from absl import flags

from byol_keras import benchmarks, gin_names, recipes  # noqa: F401, register names for gin
from byol_keras.config import operative, parse
from byol_keras.config.bindings import unused_line
from byol_keras.config.syntax import Origin
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard, load_dump
from byol_keras.report import Report
from byol_keras.results import provenance
from byol_keras.runtime import cli, workers
from byol_keras.runtime.console import plain_console
from byol_keras.runtime.devices import (
    EARLY_STRATEGIES,
    STRATEGIES,
    check_strategy,
)
from byol_keras.runtime.errors import Findings
from byol_keras.runtime.run_folder import check_model_dir
from byol_keras.training import plan, rules
from byol_keras.training.build import Factories, Settings, build_run
from byol_keras.training.run import execute, repeat


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
    start_from: str | None = None,
    head_warmup_epochs: int = 0,
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
        strategy: see `devices.make_strategy`.
        dry_run: print the plan of the run, and stop.
        allow_config_change: resume even if the configuration differs from that of the
            checkpoint in what determines the result.
        replay: step to repeat, at which the run in `model_dir` stopped; see
            `monitoring.replay`.
        origin: what `config.parse.parse_gin` returned, for the report.
        dataset_fn: () -> `ImageData`.
        views_fn: () -> `TwoViews`.
        backbone_fn: (channels) -> `keras.Model`.
        model_fn: (backbone) -> `BYOL`.
        optimizer_fn: (learning_rate) -> Keras optimizer.
        learning_rate_fn: (run_length) -> schedule or float.
        target_ema_fn: (total_steps, batch_size) -> `TargetEMA`.
        epochs: int. Passes over the data.
        batch_size: int. Images per optimizer step, over all devices and micro-batches.
        last_batch: "carry" or "pad"; see `schedules.RunLength`.
        seed: int. Determines initial weights, data order and augmentations.
        start_from: folder of a run whose newest checkpoint has the weights that all
            networks start with; see `training.source`. Optimizer and schedules start
            anew. None starts with the networks as they are built.
        head_warmup_epochs: int. Epochs that train only the heads, which start at
            random, and hold a pre-trained backbone; see `callbacks.HeadWarmup`.
        precision: Keras dtype policy; see `devices.set_precision`.
        jit_compile: bool. Compile the step with XLA.
        deterministic: bool. Use deterministic operations only; see
            `devices.set_seed`.
        log_every_steps: int. Steps between two lines of `metrics.jsonl`.
        callbacks: further Keras callbacks, or functions () -> callback, as
            `[@OnlineProbe]`.
        guard_fn: (every_steps, model_dir, describe) -> `NonfiniteGuard`; None trains
            without it.
        doctor_fn: (probe, shortcuts, batch_size, log_every_steps, model_dir) ->
            `CollapseDoctor`; None trains without it.
        report_fn: (model_dir, data, views, seed, pass_length) -> `Report`; None trains
            without it.
    """
    parts = Factories(
        dataset_fn,
        views_fn,
        backbone_fn,
        model_fn,
        optimizer_fn,
        learning_rate_fn,
        target_ema_fn,
        callbacks,
        guard_fn,
        doctor_fn,
        report_fn,
    )
    with cli.user_errors():
        settings = Settings(
            epochs,
            batch_size,
            last_batch,
            seed,
            precision,
            jit_compile,
            deterministic,
            log_every_steps,
            start_from,
            head_warmup_epochs,
        )
        run = build_run(model_dir, strategy, parts, settings)
        _refuse_unused_bindings()
        rows = plan.rows(run)
        is_chief = workers.is_chief(run.strategy)
        plain_console(quiet=not is_chief).print(plan.table(rows))
        if replay is not None and not dry_run:
            load_dump(model_dir, replay, run.model)
    if dry_run:
        return
    if replay is not None:
        print(repeat(run, replay))
        return
    start = functools.partial(
        provenance.add_start, argv=sys.orig_argv, plan=rows, origin=origin
    )
    execute(run, model_dir, allow_config_change, start)


def _refuse_unused_bindings():
    Findings([unused_line(name) for name in operative.unused_bindings()]).raise_all()


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
                check_model_dir(model_dir)
        with found.noted():
            origin = parse.parse_gin(
                flags.FLAGS.gin_file,
                flags.FLAGS.gin_param,
                recipes="pretrain",
                installed=recipes.root(),
            )
            is_early = strategy in EARLY_STRATEGIES
            rules.check_configuration(trial=not is_early)
        found.raise_all()
        if dry_run:
            rules.refuse_downloads()
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
    flags.DEFINE_boolean("dry_run", False, "print the plan of the run, and stop.")
    flags.DEFINE_boolean(
        "allow_config_change",
        False,
        "resume even if the configuration differs from that of the checkpoint.",
    )
    flags.DEFINE_integer(
        "replay_step", None, "repeat this step, at which the run has stopped."
    )
    cli.run(main)
