"""Runs what was built: resumes, trains through `fit`, exports the backbone."""

import contextlib
import sys
import time
from collections.abc import Callable

from byol_keras.checkpoints.fingerprint import changes, fingerprint
from byol_keras.checkpoints.run_lock import RunLock
from byol_keras.checkpoints.signals import OneLineEnding
from byol_keras.config import operative
from byol_keras.data.unreadable import TooManyBadImages, listed_in
from byol_keras.export import export_backbone, image_shape
from byol_keras.export.model_card import (
    rewrite_scores,
    rewrite_table,
    write_card,
)
from byol_keras.monitoring.logs import MetricsLog, Progress, TensorLogs
from byol_keras.monitoring.replay import replay_step
from byol_keras.monitoring.throughput import Meter, flops_of_step, peak_flops
from byol_keras.results import provenance
from byol_keras.runtime import cli, workers
from byol_keras.runtime.console import plain_console
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.training.build import Run
from byol_keras.training.evaluation import EvaluationError
from byol_keras.training.source import describe_source

EXIT_STOPPED = 3


def execute(
    run: Run,
    model_dir: str,
    allow_config_change: bool,
    note_start: Callable[..., None],
) -> None:
    """Trains from the newest checkpoint on and exports the backbone.

    The process holds the lock of the run folder meanwhile.

    Args:
        run: what to train.
        model_dir: run folder; made if missing.
        allow_config_change: resume even if the configuration differs from that of the
            checkpoint in what determines the result.
        note_start: (folder, step, total_steps) -> None, called once before training.

    Raises:
        SystemExit: after a line on stderr; with code 2 for a user's mistake, 3 if a
            watcher stopped the run, 1, 130 or 143 if it was interrupted.
    """
    is_chief = workers.is_chief(run.strategy)
    console = plain_console(quiet=not is_chief, soft_wrap=True)
    lost = workers.LOST if workers.are_several(run.strategy) else ()
    ending = OneLineEnding(run.checkpoints.signals, model_dir, lost)
    with ending, contextlib.ExitStack() as held:
        with cli.user_errors():
            folder = RunFolder.make(model_dir)
            if is_chief:
                held.enter_context(RunLock(folder.lock))
            held.callback(run.checkpoints.folder.close)
            for line in _resume(run, allow_config_change):
                console.print(line)
            if is_chief:
                operative.write_config(folder)
                total = run.length.total_steps
                note_start(folder, step=run.position.step, total_steps=total)
            meter = _meter(run)
            batches = _batches(run, meter)
        if run.position.step < run.length.total_steps:
            with _training(run, meter, folder) as callbacks:
                run.model.fit(
                    batches,
                    initial_epoch=run.position.epoch,
                    epochs=run.length.epochs,
                    steps_per_epoch=run.position.longest_epoch,
                    shuffle=False,  # the dataset has its own, reproducible order
                    verbose=0,
                    callbacks=callbacks,
                )
            console.print(meter.verdict() or "")
        if is_chief:
            _export(run, folder)
        workers.require_same(run.strategy, step=run.position.step)
        workers.linger(run.strategy)
        console.print(f"backbone exported to {folder.export}")
        if run.report is not None:
            run.report.write()
    ending.exit_if_ended()


@contextlib.contextmanager
def _training(run, meter, folder):
    """Context of `fit`: signal handlers, the list of bad images, logs and time spent.

    Yields:
        The callbacks of the run.
    """
    is_chief = workers.is_chief(run.strategy)
    listing = folder.bad_images if is_chief else None
    started = time.monotonic()
    for counting in (*run.watchers, *_head_warmup(run)):
        counting.step = run.position.step
    kinds = (TooManyBadImages, EvaluationError)
    with cli.user_errors(kinds), listed_in(listing):
        with run.checkpoints.signals, contextlib.ExitStack() as shown:
            logs = _logs(run, folder, shown) if is_chief else []
            yield _callbacks(run, meter, logs)
        for watcher in run.watchers:
            if watcher.stopped:
                print(f"error: {watcher.stopped}", file=sys.stderr)
                sys.exit(EXIT_STOPPED)
    if is_chief:
        provenance.add_seconds(folder, time.monotonic() - started)


def _logs(run, folder, shown):
    log = {
        "batch_size": run.length.batch_size,
        "every_steps": run.settings.log_every_steps,
    }
    progress = shown.enter_context(Progress(run.position, **log))
    return [MetricsLog(folder, run.position, **log), progress]


def _callbacks(run, meter, logs):
    """All callbacks of the run, in the order in which they read and add to the logs."""
    callbacks = [
        run.position,
        *_head_warmup(run),
        run.target_ema,
        *run.watchers,
        *run.callbacks,
        meter,
        *logs,
        run.checkpoints,
        *([run.report] if run.report else []),
    ]
    steps = run.position.longest_epoch
    return TensorLogs(callbacks, run.model, run.length.epochs, steps)


def _head_warmup(run):
    return [] if run.head_warmup is None else [run.head_warmup]


def repeat(run: Run, step: int) -> str:
    """Repeats one step without its update; returns loss and gradients as text."""
    run.position.move_to(step)
    return str(replay_step(run.model, next(iter(_batches(run)))))


def _export(run, folder):
    backbone = run.model.online.backbone
    export_backbone(backbone, folder.export)
    facts = {
        "file": f"{folder.backbone.name}, {folder.saved_model.name}",
        "network": "online, backbone",
        "input": f"[B, H, W, {image_shape(backbone)[-1]}], float32 in 0..1; the "
        "SavedModel takes uint8 too",
    }
    source = run.checkpoints.about.get("started_from")
    if source:
        facts["started from"] = describe_source(source)
    write_card(folder, folder.export, "BYOL, online backbone", facts)
    rewrite_scores(folder)
    rewrite_table(folder)


def _meter(run):
    flops = flops_of_step(run.model, run.views.shape(run.data))
    return Meter(
        run.position,
        batch_size=run.length.batch_size,
        every_steps=run.settings.log_every_steps,
        flops_per_image=flops,
        peak=peak_flops(run.settings.precision),
    )


def _resume(run, allow_config_change):
    """Restores the newest checkpoint, if there is one; yields lines to print."""
    checkpoints = run.checkpoints
    checkpoints.about = {
        "config": fingerprint(
            num_examples=run.data.num_examples,
            digest=run.data.digest(),
        )
    }
    if run.source is not None:
        checkpoints.about["started_from"] = run.source.record()
    found = checkpoints.folder.newest()
    if found is not None:
        _refuse_changes(
            found.about["config"], checkpoints.about["config"], allow_config_change
        )
        checkpoints.restore(found)
        if "started_from" in found.about:
            checkpoints.about["started_from"] = found.about["started_from"]
        yield from found.damaged
        for name in checkpoints.starting_anew(found):
            yield f"{name} starts anew: the checkpoint has no state of it"
        yield f"resuming at step {run.position.step} of {run.length.total_steps}"
    workers.require_same(
        run.strategy, step=run.position.step, **checkpoints.about["config"]
    )


def _refuse_changes(old, new, allowed):
    lines = changes(old, new)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
    if lines and not allowed:
        raise ValueError(
            "config differs from the checkpoint (listed above); use a new model_dir, "
            "or allow_config_change to resume anyway"
        )


def _batches(run, meter=None):
    def make(source, batch_size):
        batches = run.views.dataset(
            source,
            batch_size,
            run.settings.seed,
            start=run.position.step * run.length.batch_size,
            pass_length=run.length.pass_length,
        )
        return batches if meter is None else meter.timed(batches)

    return workers.distribute(run.strategy, run.data, run.length.batch_size, make)
