"""Runs benchmarks on an exported backbone and prints their results in one table.

    python -m byol_keras.benchmarks --gin_file=gin/benchmarks/knn.gin --model_dir=DIR

Each result is written to DIR/benchmarks/<name>.json as soon as it is there, and the
table to DIR/benchmarks/table.md. The same command again runs only what is missing.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gin
from absl import flags

from byol_keras import gin_names, recipes  # noqa: F401, registers names
from byol_keras.benchmarks import measure
from byol_keras.benchmarks.measure import Setting, Task
from byol_keras.config import parse
from byol_keras.config.bindings import find_mistakes
from byol_keras.config.graph import value_of
from byol_keras.data.unreadable import listed_in
from byol_keras.export import load_backbone
from byol_keras.export.digest import (
    backbone_digest,
    exported_digests,
    note_evaluated,
)
from byol_keras.export.model_card import rewrite_scores
from byol_keras.report.callback import rewrite_page
from byol_keras.results import records, table
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.console import plain_console
from byol_keras.runtime.errors import Findings
from byol_keras.runtime.run_folder import BenchmarkFolder, RunFolder

SELECTOR = "byol_keras.benchmark"


@gin.configurable(module="byol_keras")
def benchmark(
    backbone_path: str,
    model_dir: str | None = None,
    *,
    benchmarks: Sequence[Callable] | Mapping[str, Callable] = (),
    baselines: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 1,
) -> None:
    """Runs each benchmark on the backbone and its baselines, and prints a table.

    A stored result is reused if the backbone, the gin bindings of the benchmark, its
    data, the baselines and the seeds are unchanged; otherwise the benchmark runs again.
    A benchmark that raises a ValueError or an OSError is reported in one line, and the
    others still run. Results that cannot be stored are printed nevertheless.

    Args:
        backbone_path: see `export.load_backbone`.
        model_dir: run folder, which gets `benchmarks/`. Results of another backbone
            than the run's have a folder of their own in it, named by the backbone's
            digest. None writes no file, except features if the user has bound a folder
            for them.
        benchmarks: bound by gin: functions `(backbone) -> dict[str, float]`, in a list
            as `[@knn]`, or named in a dict as `{"small": @small/finetune}`.
        baselines: names from `baselines.BASELINES` to compare with.
        seed: int. First seed of random baselines and of benchmarks with an argument
            `seed`, unless that argument is bound itself.
        seeds: int. Number of consecutive seeds that these run with.

    Raises:
        SystemExit: after a line on stderr, with code 2 for a user's mistake, and if a
            result cannot be stored; 1 if the user did not cause it, as on a full disk.
    """
    with cli.user_errors():
        references = value_of(SELECTOR, "benchmarks")
        tasks = measure.make_tasks(benchmarks, references)
        measure.check_shared(baselines, seed, seeds)
        trained = load_backbone(backbone_path)
        run = RunFolder.make(model_dir) if model_dir else None
    digest = backbone_digest(trained)
    place = run and _place(run, backbone_path, digest)
    selectors = {task.selector for task in tasks}
    setting = Setting(trained, digest, list(baselines), seed, seeds, selectors)
    measured = {}
    codes = {place.failure if place else 0}
    for task in tasks:
        # Other errors than these are bugs, and end the command.
        try:
            _run(task, setting, place, backbone_path, measured)
        except (ValueError, OSError) as error:
            codes.add(_print_error(task.name, error))
    if measured:
        codes.add(_print_table(measured, place))
    if any(codes):
        sys.exit(min(code for code in codes if code))


class Place(NamedTuple):
    """Where results are stored.

    Args:
        run: the run folder.
        folder: in it, for results of the run's own backbone or of another one.
        failure: int. 0 if results can be stored there; the exit code if they can only
            be read.
    """

    run: RunFolder
    folder: BenchmarkFolder
    failure: int = 0

    @property
    def is_writable(self) -> bool:
        return not self.failure


def _place(run, backbone_path, digest) -> Place:
    """Where results are stored; features, too, unless gin binds another place."""
    note_evaluated(backbone_path, digest, run)
    folder = run.benchmark_folder()
    has_backbone = run.backbone.exists() or any(mark.exists() for mark in run.marks())
    if has_backbone and digest not in exported_digests(run.export):
        folder = run.benchmark_folder(digest)
        print(f"the backbone is not that of {run}: its results are in {folder.path}")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.path):
            pass
    except OSError as error:
        failure = _print_error(
            "model_dir must be a folder that can be written, and results are only "
            f"printed. Received: {folder.path}",
            error,
        )
        return Place(run, folder, failure)
    if "cache_dir" not in gin.get_bindings("extract_all"):
        with gin.unlock_config():
            gin.bind_parameter(measure.CACHE, str(run.features))
    return Place(run, folder)


def _run(task, setting, place, backbone_path, measured) -> None:
    """Adds the record of a benchmark to `measured`, prints it, and stores a new one."""
    arguments = _arguments(task)
    identity = measure.identity_of(task, arguments, setting)
    stored = _stored(task, identity, arguments, place)
    record = stored or _measured(task, identity, setting, place, backbone_path)
    measured[task.name] = record
    plain_console().print(table.of_record(record, task.name))
    if place and place.is_writable and not stored:
        print(f"written to {records.write(place.folder.path, task.name, record)}")


def _stored(task, identity, arguments, place) -> dict | None:
    """The stored record of a benchmark; None if there is none of this identity."""
    stored = place and records.read(place.folder.path, task.name)
    if not stored:
        return None
    changed = records.changed_entries(stored, identity)
    if changed:
        print(f"{task.name} runs again: other {', '.join(changed)} than stored")
        return None
    if measure.has_unreadable(stored, arguments):
        print(f"{task.name} runs again: without images that cannot be read")
        return None
    print(f"{task.name}: stored in {place.folder.result(task.name)}")
    return stored


def _measured(task, identity, setting, place, backbone_path) -> dict:
    """Runs a benchmark, and returns its record."""
    output_dir = bad_images = None
    if place and place.is_writable:
        output_dir = place.folder.output(task.name)
        bad_images = place.run.bad_images
    with listed_in(bad_images):
        record = measure.measured_record(task, identity, setting, output_dir)
    for name, count in record["left_out_images"].items():
        print(f"{task.name}: {count} of the {name} could not be read and were left out")
    record = {
        "backbone": str(backbone_path),
        **record,
        "config": gin.operative_config_str(),
    }
    is_of_run = place and place.folder.path == place.run.benchmarks
    if is_of_run and place.run.operative_config.exists():
        record["training_config"] = place.run.operative_config.read_text()
    return record


def _arguments(task: Task) -> dict[str, Any]:
    """Instantiates the arguments of a benchmark, so that mistakes show before it."""
    try:
        with gin.config_scope(task.scopes):
            return gin.get_bindings(task.selector)
    except (TypeError, RuntimeError, OSError) as error:
        raise ValueError(str(error)) from error


def _print_error(name, error) -> int:
    """Prints an error in one line; the exit code, without ending the command."""
    try:
        with cli.user_errors():
            raise ValueError(f"{name}: {measure.reason(error)}") from error
    except SystemExit as ending:
        return ending.code


def _print_table(measured, place) -> int:
    """Prints all results and stores them; 0, or the exit code if that fails."""
    text = table.markdown(measured)
    print(f"\n{text}")
    if place and place.is_writable:
        try:
            write_text(place.folder.table, text + "\n")
            rewrite_scores(place.run.path)
        except OSError as error:
            return _print_error("results", error)
        rewrite_page(place.run.path)
    return 0


def check_configuration() -> None:
    """Checks the parsed gin configuration before anything is instantiated.

    Raises:
        Mistakes: with all mistakes found.
    """
    Findings(find_mistakes(SELECTOR)).raise_all()


def main(_):
    """Parses flags and gin, then runs the benchmarks."""
    model_dir, backbone = flags.FLAGS.model_dir, flags.FLAGS.backbone
    with cli.user_errors():
        if not (model_dir or backbone):
            raise ValueError(
                "--model_dir or --backbone must name a backbone. Received: none"
            )
        parse.parse_gin(
            flags.FLAGS.gin_file, flags.FLAGS.gin_param, installed=recipes.root()
        )
        check_configuration()
        # Instantiates the root's arguments once, where a mistake is one line.
        gin.get_bindings(SELECTOR)
    benchmark(backbone or model_dir, model_dir)


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_string(
        "backbone", None, "backbone to evaluate instead of the run folder's export."
    )
    cli.run(main)
