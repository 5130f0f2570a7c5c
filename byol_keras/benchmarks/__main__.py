"""Runs benchmarks on an exported backbone and prints one table of them.

    python -m byol_keras.benchmarks --gin_file=gin/benchmarks/knn.gin --model_dir=DIR

Each result is written to DIR/benchmarks/<name>.json as soon as it is there, and the
table to DIR/benchmarks/table.md. The same command again does only what is missing.
"""

import contextlib
import inspect
import pathlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gin
import keras
from absl import app, flags
from rich.console import Console

import byol_keras
from byol_keras import benchmarks as registered
from byol_keras import gin_names  # noqa: F401, registers names
from byol_keras.benchmarks import measure
from byol_keras.benchmarks.baselines import BASELINES
from byol_keras.config import parse
from byol_keras.config.bindings import find_mistakes
from byol_keras.data.unreadable import listed_in
from byol_keras.export import load_backbone
from byol_keras.export.digest import backbone_digest
from byol_keras.export.model_card import rewrite_scores
from byol_keras.report.callback import rewrite_page
from byol_keras.results import records, table
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.errors import Findings
from byol_keras.runtime.run_folder import RunFolder

CACHE = "extract_all.cache_dir"


class Task(NamedTuple):
    """A benchmark under its name, and where gin finds what is bound for it."""

    name: str
    function: Callable
    scopes: list[str]
    selector: str


class Setting(NamedTuple):
    """What the benchmarks of one run share."""

    trained: keras.Model
    digest: str
    baselines: list[str]
    seed: int
    seeds: int
    selectors: set[str]


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
    """Runs each benchmark on the backbone and on its baselines, and prints a table.

    A stored result counts if the backbone, what gin binds for the benchmark, its data,
    the baselines and the seeds are as they were; else the benchmark runs anew. One that
    ends in a ValueError is reported in one line, and the others still run.

    Args:
        backbone_path: what `export.load_backbone` reads.
        model_dir: run folder for `benchmarks/`; None writes no file, but for features
            that the user keeps in a folder.
        benchmarks: bound by gin: functions `(backbone) -> dict[str, float]`, as
            `[@knn]`, or under names of their own, as `{"small": @small/finetune}`.
        baselines: names from `baselines.BASELINES` to compare with.
        seed: int. The first seed of benchmarks with an argument `seed`, unless that is
            bound itself, and of baselines that are random.
        seeds: int. How many seeds, one after the other, these run with.

    Raises:
        SystemExit: with code 2, after a line on stderr, for a user's mistake.
    """
    with cli.user_errors():
        tasks = _tasks(benchmarks)
        _check_arguments(baselines, seed, seeds)
        trained = load_backbone(backbone_path)
        folder = _make_folder(model_dir)
    digest = backbone_digest(trained)
    selectors = {task.selector for task in tasks}
    setting = Setting(trained, digest, list(baselines), seed, seeds, selectors)
    measured = {}
    for task in tasks:
        # A benchmark is long; only what it raises as a user's mistake is taken for one.
        try:
            measured[task.name] = _result(task, setting, folder, backbone_path)
        except ValueError as error:
            _report(task.name, error)
            continue
        Console().print(table.of_record(measured[task.name], task.name))
    if measured:
        _print_table(measured, folder)
        if backbone_path == model_dir:
            rewrite_scores(folder.parent)
    if len(measured) < len(tasks):
        sys.exit(cli.EXIT_USER_ERROR)


def _tasks(benchmarks) -> list[Task]:
    functions = _by_name(benchmarks)
    bound = gin.get_bindings("byol_keras.benchmark", resolve_references=False)
    references = bound["benchmarks"]
    while isinstance(references, gin.config.ConfigurableReference):  # a macro
        macro = f"{'/'.join(references.scopes)}/{references.selector}"
        references = gin.get_bindings(macro, resolve_references=False)["value"]
    if isinstance(references, Mapping):
        references = references.values()
    return [
        Task(name, function, reference.scopes, reference.configurable.selector)
        for (name, function), reference in zip(
            functions.items(), references, strict=True
        )
    ]


def _by_name(benchmarks) -> dict[str, Callable]:
    named = benchmarks
    if isinstance(benchmarks, (list, tuple)):
        named = {getattr(f, "__name__", repr(f)): f for f in benchmarks}
    if not (isinstance(named, dict) and named and all(map(callable, named.values()))):
        raise ValueError(
            "benchmark.benchmarks must be a list of functions, as [@knn], or a dict of "
            f"them. Received: {benchmarks!r}"
        )
    if len(named) < len(benchmarks):
        names = [function.__name__ for function in benchmarks]
        raise ValueError(
            "benchmark.benchmarks must have one name for each, so give them names in a "
            f'dict, as {{"a": @knn, "b": @scope/knn}}. Received: {names}'
        )
    for name in named:
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
            raise ValueError(
                "benchmark.benchmarks must have names that are good for a file. "
                f"Received: {name!r}"
            )
    return named


def _check_arguments(baselines, seed, seeds):
    if not isinstance(baselines, (list, tuple)) or not set(baselines) <= set(BASELINES):
        raise ValueError(
            f"benchmark.baselines must be a list of names among {tuple(BASELINES)}. "
            f"Received: {baselines!r}"
        )
    _check_int("benchmark.seed", seed, 0)
    _check_int("benchmark.seeds", seeds, 1)


def _check_int(name, value, least):
    if type(value) is not int or value < least:
        raise ValueError(
            f"{name} must be an int of at least {least}. Received: {value!r}"
        )


def _make_folder(model_dir) -> pathlib.Path | None:
    """The folder of the results; features are kept in it unless gin says where."""
    if not model_dir:
        return None
    run = RunFolder(model_dir)
    run.benchmarks.mkdir(parents=True, exist_ok=True)
    if "cache_dir" not in gin.get_bindings("extract_all"):
        with gin.unlock_config():
            gin.bind_parameter(CACHE, str(run.features))
    return run.benchmarks


def _result(task, setting, folder, backbone_path) -> dict:
    """The record of a benchmark, as stored or after running it."""
    identity = _identity(task, setting)
    stored = folder and records.read(folder, task.name)
    if stored:
        changed = records.changes(stored, identity)
        if not changed:
            print(f"{task.name}: stored in {folder / task.name}.json")
            return stored
        print(f"{task.name} runs anew: other {', '.join(changed)} than stored")
    start = time.perf_counter()
    with listed_in(folder and RunFolder(folder.parent).bad_images):
        per_seed, missing = measure.measure(
            task.function,
            setting.trained,
            setting.baselines,
            identity["seeds"],
            output_dir=folder and folder / task.name,
        )
    seconds = time.perf_counter() - start
    record = {
        "backbone": str(backbone_path),
        **records.make_record(per_seed, missing, identity, seconds),
        "config": gin.operative_config_str(),
    }
    if folder:
        training = RunFolder(folder.parent).operative_config
        if training.exists():
            record["training_config"] = training.read_text()
        print(f"written to {records.write(folder, task.name, record)}")
    return record


def _identity(task, setting) -> dict[str, Any]:
    """All that a result is a function of, in terms of JSON."""
    arguments = _arguments(task)
    first = arguments.get("seed", setting.seed)
    return {
        "backbone": setting.digest,
        "bindings": _bindings(task, setting.selectors),
        "data": {
            name: value.digest()
            for name, value in arguments.items()
            if hasattr(value, "digest")
        },
        "baselines": setting.baselines,
        "seeds": list(range(first, first + setting.seeds)),
        "version": byol_keras.__version__,
    }


def _arguments(task) -> dict[str, Any]:
    """What gin binds for a benchmark, made, so that mistakes show before any work."""
    try:
        with gin.config_scope(task.scopes):
            arguments = gin.get_bindings(task.selector)
    except (TypeError, RuntimeError, OSError) as error:
        raise ValueError(str(error)) from error
    parameters = inspect.signature(task.function).parameters.values()
    required = [p.name for p in parameters if p.default is gin.REQUIRED]
    unbound = [name for name in required if name not in arguments]
    if unbound:
        raise ValueError(f"{', '.join(unbound)} must be bound. Received: none")
    if "seed" in arguments:
        _check_int("seed", arguments["seed"], 0)
    return arguments


def _bindings(task, selectors) -> list[str]:
    """Lines of the configuration that may decide the result of a benchmark.

    All but those that only other benchmarks refer to: a function that is
    `gin.configurable`, as `extract_all`, has its bindings wherever it is called.
    """
    lines = _configuration()
    of_others = set()
    for scope, selector in lines:
        name = selector.rpartition(".")[2]
        if selector in selectors or name in registered.__all__:
            of_others |= _reached(scope.split("/") if scope else [], selector)
    left_out = of_others - _reached(task.scopes, task.selector)
    kept = {key: found for key, found in lines.items() if key not in left_out}
    kept.pop(("", "byol_keras.benchmark"))  # what counts of it is in the identity
    return [line for found in kept.values() for line in found if CACHE not in line]


def _configuration() -> dict[tuple[str, str], list[str]]:
    """Scope and selector -> all that is bound there, as lines of gin."""
    lines = {}
    for line in gin.config_str(max_line_length=10**6).splitlines():
        name, equals, _ = line.partition(" = ")
        if equals and not line.startswith("#"):
            key = (name, "gin.macro")
            if "." in name:
                key = gin.config.ParsedBindingKey.parse(name).config_key
            lines.setdefault(key, []).append(line)
    return lines


def _reached(scopes, selector) -> set[tuple[str, str]]:
    """Scopes and selectors of all bindings that a call in these scopes refers to."""
    reached, waiting = set(), [(scopes, selector)]
    while waiting:
        scopes, selector = waiting.pop()
        if (tuple(scopes), selector) in reached:
            continue
        reached.add((tuple(scopes), selector))
        with gin.config_scope(list(scopes)):
            values = gin.get_bindings(selector, resolve_references=False)
        for reference in gin.config.iterate_references(values):
            # A reference without a scope is called in that of its caller.
            waiting.append(
                (reference.scopes or scopes, reference.configurable.selector)
            )
    return {
        ("/".join(scopes[:depth]), selector)
        for scopes, selector in reached
        for depth in range(len(scopes) + 1)
    }


def _report(name, error):
    """Says a user's mistake as every other is said, and goes on."""
    with contextlib.suppress(SystemExit), cli.user_errors():
        raise ValueError(f"{name}: {measure.reason(error)}") from error


def _print_table(measured, folder):
    text = table.markdown(measured)
    print(f"\n{text}")
    if folder:
        write_text(RunFolder(folder.parent).benchmarks_table, text + "\n")
        rewrite_page(folder.parent)


def check_configuration() -> None:
    """Checks what gin has parsed, before anything is made.

    Raises:
        Mistakes: all that are found.
    """
    given = ("backbone_path", "model_dir")
    Findings(find_mistakes("byol_keras.benchmark", given)).tell()


def main(_):
    """Parses flags and gin, then runs the benchmarks."""
    model_dir, backbone = flags.FLAGS.model_dir, flags.FLAGS.backbone
    with cli.user_errors():
        if not (model_dir or backbone):
            raise ValueError(
                "--model_dir or --backbone must name a backbone. Received: none"
            )
        parse.parse_gin(flags.FLAGS.gin_file, flags.FLAGS.gin_param)
        check_configuration()
        # Makes what is bound for the root once, where a mistake is one line.
        gin.get_bindings("byol_keras.benchmark")
    benchmark(backbone or model_dir, model_dir)


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_string(
        "backbone", None, "backbone to evaluate instead of the run folder's export."
    )
    app.run(main, flags_parser=cli.parse_flags)
