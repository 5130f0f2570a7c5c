"""Measures a benchmark: the tasks of a run, their identities, their scores."""

import functools
import inspect
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gin
import keras

from byol_keras import benchmarks as registered
from byol_keras.benchmarks.baselines import BASELINES
from byol_keras.benchmarks.left_out_classes import listed_left_out_classes
from byol_keras.config.graph import lines_for
from byol_keras.data.unreadable import counted_left_out
from byol_keras.results import records
from byol_keras.runtime.argument_checks import check_int
from byol_keras.version import __version__

# Binding of the folder of cached features, which changes no score.
CACHE = "extract_all.cache_dir"
# Redrawn for every seed, even if the benchmark itself takes none.
RANDOM_BASELINES = ("random_init",)


class Task(NamedTuple):
    """A benchmark to run.

    Args:
        name: of its result file.
        function: (backbone) -> metric -> number, with its gin bindings applied.
        scopes: gin scopes of the call.
        selector: gin name of the function.
    """

    name: str
    function: Callable
    scopes: list[str]
    selector: str


class Setting(NamedTuple):
    """Settings that all benchmarks of one run share.

    Args:
        trained: the backbone to evaluate.
        digest: of that backbone.
        baselines: names from `baselines.BASELINES`.
        seed, seeds: ints. First seed, and the number of seeds.
        selectors: gin names of all benchmarks of the run.
    """

    trained: keras.Model
    digest: str
    baselines: list[str]
    seed: int
    seeds: int
    selectors: set[str]


def make_tasks(
    benchmarks: Sequence[Callable] | Mapping[str, Callable],
    references: Sequence | Mapping,
) -> list[Task]:
    """The tasks that `benchmark.benchmarks` lists.

    Args:
        benchmarks: functions, in a list or by name.
        references: gin's references to these functions, in the same container.

    Raises:
        ValueError: for an empty list, values that are no functions, equal names, or
            names that cannot name a file.
    """
    named = _by_name(benchmarks)
    if isinstance(references, Mapping):
        references = references.values()
    return [
        Task(name, function, reference.scopes, reference.configurable.selector)
        for (name, function), reference in zip(named.items(), references, strict=True)
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
            "benchmark.benchmarks must have a different name for each function; a dict "
            f'sets names, as {{"a": @knn, "b": @scope/knn}}. Received: {names}'
        )
    for name in named:
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
            raise ValueError(
                "benchmark.benchmarks must have names that can name a file. "
                f"Received: {name!r}"
            )
    return named


def check_shared(baselines: Sequence[str], seed: int, seeds: int) -> None:
    """Raises a `ValueError` for unknown baselines and impossible seeds."""
    if not isinstance(baselines, (list, tuple)) or not set(baselines) <= set(BASELINES):
        raise ValueError(
            f"benchmark.baselines must be a list of names among {tuple(BASELINES)}. "
            f"Received: {baselines!r}"
        )
    check_int("benchmark.seed", seed, 0)
    check_int("benchmark.seeds", seeds, 1)


def identity_of(
    task: Task, arguments: Mapping[str, Any], setting: Setting
) -> dict[str, Any]:
    """Everything that determines the result of a task, as JSON values.

    Args:
        task: to identify.
        arguments: the values that gin passes to its function.
        setting: of the run.

    Raises:
        ValueError: if a required argument is missing, or a bound seed is impossible.
    """
    parameters = inspect.signature(task.function).parameters.values()
    required = [p.name for p in parameters if p.default is gin.REQUIRED]
    unbound = [name for name in required if name not in arguments]
    if unbound:
        raise ValueError(f"{', '.join(unbound)} must be bound. Received: none")
    if "seed" in arguments:
        check_int("seed", arguments["seed"], 0)
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
        "version": __version__,
    }


def _bindings(task, selectors) -> list[str]:
    """Lines of the configuration that can change the result of a benchmark.

    Bindings that only other benchmarks refer to are left out. Those of a function that
    is `gin.configurable`, as `extract_all`, act wherever it is called, and are kept.
    """
    others = {*selectors, *(f"byol_keras.{name}" for name in registered.__all__)}
    lines = lines_for(task.scopes, task.selector, others)
    # The identity has its own entries for the bindings of `benchmark`.
    kept = [line for line in lines if not line.startswith("benchmark.")]
    return [line for line in kept if CACHE not in line]


def has_unreadable(record: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether a record is from a version that did not leave out unreadable images.

    Args:
        record: that is stored.
        arguments: the values that gin passes to the benchmark. Data of such a record
            are examined.
    """
    if "left_out_images" in record:
        return False
    data = [value for value in arguments.values() if hasattr(value, "readable")]
    return any(value.readable() is not value for value in data)


def measured_record(
    task: Task,
    identity: Mapping[str, Any],
    setting: Setting,
    output_dir: pathlib.Path | None = None,
) -> dict:
    """Runs a task and returns its record; see `records.make_record`.

    `left_out_images` of the record is the number of images that could not be read, by
    the name of the data; `left_out_classes` names those with too few images.

    Args:
        task: to run.
        identity: of the task; see `identity_of`.
        setting: of the run.
        output_dir: folder for files that the benchmark writes, or None.

    Raises:
        ValueError: from the benchmark, when it runs on the trained backbone.
    """
    start = time.perf_counter()
    with counted_left_out() as left_out, listed_left_out_classes() as classes:
        per_seed, missing = run_with_baselines(
            task.function,
            setting.trained,
            setting.baselines,
            identity["seeds"],
            output_dir=output_dir,
        )
    seconds = time.perf_counter() - start
    record = records.make_record(per_seed, missing, identity, seconds)
    return record | {"left_out_images": left_out, "left_out_classes": classes}


def run_with_baselines(
    function: Callable[..., dict[str, float]],
    trained: keras.Model,
    baselines: Sequence[str],
    seeds: Sequence[int],
    output_dir: pathlib.Path | None = None,
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Runs a benchmark on the trained backbone and on its baselines.

    Args:
        function: (backbone) -> metric -> number. It may also take a `seed`, and an
            `output_dir` for pictures and for the state of an interrupted training.
        trained: the backbone.
        baselines: names from `baselines.BASELINES`.
        seeds: ints. Only the first one is used where neither the function nor the
            baseline is random.
        output_dir: folder for files that the benchmark writes, or None.

    Returns:
        Model -> results of its seeds, with the trained backbone last; and the reason
        for each baseline that raised a ValueError.

    Raises:
        ValueError: from the benchmark, when it runs on the trained backbone.
    """
    parameters = inspect.signature(function).parameters
    takes_seed = "seed" in parameters
    if "output_dir" in parameters:
        function = functools.partial(function, output_dir=output_dir)
    per_seed, missing = {}, {}
    # The trained backbone runs first, so that wrong settings show before other work.
    for model in ("trained", *baselines):
        is_random = takes_seed or model in RANDOM_BASELINES
        try:
            per_seed[model] = [
                _scores(function, trained, model, seed, takes_seed)
                for seed in (seeds if is_random else seeds[:1])
            ]
        except ValueError as error:
            if model == "trained":
                raise
            missing[model] = reason(error)
    per_seed["trained"] = per_seed.pop("trained")
    return per_seed, missing


def _scores(function, trained, model, seed, takes_seed):
    backbone = trained if model == "trained" else BASELINES[model](trained, seed)
    found = function(backbone, seed=seed) if takes_seed else function(backbone)
    return {key: float(value) for key, value in found.items()}


def reason(error: ValueError) -> str:
    """The message of an error, in one line.

    When TensorFlow traces a function, its error starts with a listing of the source,
    and the message of the original error follows below.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    mark = f"{ValueError.__name__}: "
    raised = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    return (raised or lines or [mark])[0]
