"""Runs a benchmark on the trained backbone and on its baselines."""

import functools
import inspect
import pathlib
from collections.abc import Callable, Sequence

import keras

from byol_keras.benchmarks.baselines import BASELINES

# Drawn anew for every seed, whatever the benchmark.
RANDOM_BASELINES = ("random_init",)


def measure(
    function: Callable[..., dict[str, float]],
    trained: keras.Model,
    baselines: Sequence[str],
    seeds: Sequence[int],
    output_dir: pathlib.Path | None = None,
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Runs a benchmark on the trained backbone and on its baselines.

    Args:
        function: (backbone) -> metric -> number, which may also take a `seed` and an
            `output_dir`, for pictures and for what it needs to resume.
        trained: the backbone.
        baselines: names from `baselines.BASELINES`.
        seeds: ints. Where neither the function nor the baseline is random, the first
            one alone is run.
        output_dir: folder for what the benchmark writes, or None.

    Returns:
        Model -> results of its seeds, the trained one last; and baseline -> why it has
        none, for those that end in a ValueError.

    Raises:
        ValueError: what the benchmark raises for the trained backbone.
    """
    parameters = inspect.signature(function).parameters
    takes_seed = "seed" in parameters
    if "output_dir" in parameters:
        function = functools.partial(function, output_dir=output_dir)
    per_seed, missing = {}, {}
    # The trained one first: settings that are wrong show before any other work.
    for model in ("trained", *baselines):
        is_random = takes_seed or model in RANDOM_BASELINES
        try:
            per_seed[model] = [
                _numbers(function, trained, model, seed, takes_seed)
                for seed in (seeds if is_random else seeds[:1])
            ]
        except ValueError as error:
            if model == "trained":
                raise
            missing[model] = reason(error)
    per_seed["trained"] = per_seed.pop("trained")
    return per_seed, missing


def reason(error: ValueError) -> str:
    """What an error says, in one line.

    One that was raised while TensorFlow traced a function begins with a listing of the
    source, and says what it says below.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    mark = f"{ValueError.__name__}: "
    raised = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    return (raised or lines or [mark])[0]


def _numbers(function, trained, model, seed, takes_seed):
    backbone = trained if model == "trained" else BASELINES[model](trained, seed)
    found = function(backbone, seed=seed) if takes_seed else function(backbone)
    return {key: float(value) for key, value in found.items()}
