"""One run: from the newest checkpoint on through `fit` to the exported backbone."""

import contextlib
import sys
import time
from collections.abc import Callable

from rich.console import Console

from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.checkpoints.fingerprint import changes, fingerprint
from byol_keras.checkpoints.run_lock import RunLock
from byol_keras.checkpoints.signals import OneLineEnding
from byol_keras.config import operative
from byol_keras.data.unreadable import TooManyBadImages, listed_in
from byol_keras.export import export_backbone, image_shape
from byol_keras.export.model_card import write_card
from byol_keras.monitoring.logs import MetricsLog, Progress, TensorLogs
from byol_keras.monitoring.replay import replay_step
from byol_keras.monitoring.throughput import Meter, flops_of_step, peak_flops
from byol_keras.results import provenance
from byol_keras.runtime import cli, run_folder, workers
from byol_keras.training.build import Run

EXIT_STOPPED = 3


def execute(
    run: Run,
    watchers: list,
    checkpoints: Checkpoints,
    model_dir: str,
    allow_config_change: bool,
    note_start: Callable[..., None],
) -> None:
    """Trains from the newest checkpoint on, alone in the run folder, and exports.

    Args:
        run: what to run.
        watchers: see `watchers.make_watchers`.
        checkpoints: the callback, of the same model and position.
        model_dir: run folder; made if missing.
        allow_config_change: resume also where that changes the result.
        note_start: (folder, step, total_steps) -> None, called once before training.

    Raises:
        SystemExit: with code 2 for a user's mistake, 3 where a watcher has stopped the
            run, 1, 130 or 143 where it was cut short; after a line on stderr.
    """
    is_chief = workers.is_chief(run.strategy)
    console = Console(quiet=not is_chief, soft_wrap=True)
    lost = workers.LOST if workers.are_several(run.strategy) else ()
    ending = OneLineEnding(checkpoints.signals, model_dir, lost)
    with ending, contextlib.ExitStack() as held:
        with cli.user_errors():
            folder = run_folder.make_run_folder(model_dir)
            if is_chief:
                held.enter_context(RunLock(folder))
            held.callback(checkpoints.folder.close)
            for line in _resume(run, checkpoints, allow_config_change):
                console.print(line)
            if is_chief:
                operative.write_config(folder)
                total = run.length.total_steps
                note_start(folder, step=run.position.step, total_steps=total)
            meter = _meter(run)
            batches = _batches(run, meter)
        if run.position.step < run.length.total_steps:
            listing = folder / "bad_images.txt" if is_chief else None
            started = time.monotonic()
            with cli.user_errors((TooManyBadImages,)), listed_in(listing):
                _fit(run, batches, watchers, meter, folder, checkpoints)
            if is_chief:
                provenance.add_seconds(folder, time.monotonic() - started)
            console.print(meter.verdict() or "")
        if is_chief:
            _export(run.model.online.backbone, folder)
        workers.require_same(run.strategy, step=run.position.step)
        workers.linger(run.strategy)
        console.print(f"backbone exported to {folder / 'export'}")
        if run.report is not None:
            run.report.write()
    ending.exit_if_ended()


def repeat(run: Run, step: int) -> str:
    """Takes one step again; what `replay.replay_step` found."""
    run.position.move_to(step)
    return replay_step(run.model, next(iter(_batches(run))))


def _export(backbone, folder):
    export_backbone(backbone, folder / "export")
    facts = {
        "file": "backbone.keras, saved_model",
        "network": "online, backbone",
        "input": f"[B, H, W, {image_shape(backbone)[-1]}], float32 in 0..1; the "
        "SavedModel takes uint8 too",
    }
    write_card(folder, folder / "export", "BYOL, online backbone", facts)


def _meter(run):
    flops = flops_of_step(run.model, run.views.shape(run.data))
    log = {"batch_size": run.length.batch_size, "every_steps": run.log_every_steps}
    return Meter(
        run.position, **log, flops_per_image=flops, peak=peak_flops(run.precision)
    )


def _resume(run, checkpoints, allow_config_change):
    """Restores the newest checkpoint, if there is one; lines on what was found."""
    checkpoints.about = {
        "config": fingerprint(
            operative.operative_bindings(),
            num_examples=run.data.num_examples,
            digest=run.data.digest(),
        )
    }
    found = checkpoints.folder.newest()
    if found is not None:
        _refuse_changes(
            found.about["config"], checkpoints.about["config"], allow_config_change
        )
        checkpoints.restore(found)
        yield from found.damaged
        for name in checkpoints.starting_anew(found):
            yield f"{name} starts anew: the checkpoint holds nothing of it"
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
            "--model_dir must be resumed with the configuration that it was started "
            "with, or with --allow_config_change. Received: what is listed above"
        )


def _fit(run, batches, watchers, meter, folder, checkpoints):
    for watcher in watchers:
        watcher.step = run.position.step
    log = {"batch_size": run.length.batch_size, "every_steps": run.log_every_steps}
    with checkpoints.signals, contextlib.ExitStack() as shown:
        logs = []
        if workers.is_chief(run.strategy):
            progress = shown.enter_context(Progress(run.position, **log))
            logs = [MetricsLog(folder, run.position, **log), progress]
        callbacks = [
            run.position,
            run.target_ema,
            *watchers,
            *run.callbacks,
            meter,
            *logs,
            checkpoints,
            *([run.report] if run.report else []),
        ]
        epochs, steps = run.length.epochs, run.position.longest_epoch
        run.model.fit(
            batches,
            initial_epoch=run.position.epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the dataset has its own, reproducible order
            verbose=0,
            callbacks=TensorLogs(callbacks, run.model, epochs, steps),
        )
    for watcher in watchers:
        if watcher.stopped:
            print(f"error: {watcher.stopped}", file=sys.stderr)
            sys.exit(EXIT_STOPPED)


def _batches(run, meter=None):
    def make(source, batch_size):
        batches = run.views.dataset(
            source,
            batch_size,
            run.seed,
            start=run.position.step * run.length.batch_size,
            pass_length=run.length.pass_length,
        )
        return batches if meter is None else meter.timed(batches)

    return workers.distribute(run.strategy, run.data, run.length.batch_size, make)
