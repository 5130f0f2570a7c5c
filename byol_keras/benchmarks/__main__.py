"""Runs benchmarks on an exported backbone.

    python -m byol_keras.benchmarks --gin_file=gin/benchmarks/knn.gin --model_dir=DIR

Results are printed and written to DIR/benchmarks/<benchmark>.json.
"""

import json
import pathlib
import time
from collections.abc import Callable, Sequence

import gin
import keras
from absl import app, flags
from rich.console import Console
from rich.table import Table

from byol_keras import benchmarks as registered  # noqa: F401
from byol_keras import (
    data,  # noqa: F401, registers names for gin
    launch,
)
from byol_keras.benchmarks.baselines import BASELINES
from byol_keras.export import load_backbone


@gin.configurable(module="byol_keras")
def benchmark(
    backbone_path: str,
    model_dir: str | None = None,
    *,
    benchmarks: Sequence[Callable] = gin.REQUIRED,
    baselines: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Runs each benchmark on the backbone and on its baselines.

    Args:
        backbone_path: what `export.load_backbone` reads.
        model_dir: run folder for `benchmarks/<name>.json`; None writes no file.
        benchmarks: functions `(backbone) -> dict[str, float]`, as `@knn`.
        baselines: names from `baselines.BASELINES` to compare with.
        seed: int. Of the random initialisation that a baseline may need.

    Raises:
        SystemExit: with code 2, after one line on stderr, for a user's mistake.
    """
    console = Console()
    with launch.user_errors():
        _check_lists(benchmarks, baselines)
        trained = load_backbone(backbone_path)
        models = {name: BASELINES[name](trained, seed) for name in baselines}
        models["trained"] = trained
        for function in benchmarks:
            start = time.perf_counter()
            results = {name: function(model) for name, model in models.items()}
            seconds = time.perf_counter() - start
            console.print(_table(results))
            if model_dir:
                path = _write(model_dir, function, backbone_path, results, seconds)
                console.print(f"written to {path}")


def _check_lists(benchmarks, baselines):
    if not isinstance(benchmarks, (list, tuple)) or not all(map(callable, benchmarks)):
        raise ValueError(
            "benchmark.benchmarks must be a list of functions, as [@knn]. "
            f"Received: {benchmarks!r}"
        )
    if not isinstance(baselines, (list, tuple)) or not set(baselines) <= set(BASELINES):
        raise ValueError(
            f"benchmark.baselines must be a list of names among {tuple(BASELINES)}. "
            f"Received: {baselines!r}"
        )


def _write(model_dir, function, backbone_path, results, seconds):
    folder = pathlib.Path(model_dir) / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{function.__name__}.json"
    record = {
        "backbone": str(backbone_path),
        "results": results,
        "seconds": round(seconds, 2),
        "versions": {"keras": keras.__version__},
        "config": gin.operative_config_str(),
    }
    training = pathlib.Path(model_dir) / "operative_config.gin"
    if training.exists():
        record["training_config"] = training.read_text()
    launch.write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def _table(results) -> Table:
    table = Table("")
    for name in results:
        table.add_column(name.replace("_", " "), justify="right")
    for key in next(iter(results.values())):
        table.add_row(key, *(f"{values[key]:.2f}" for values in results.values()))
    return table


def main(_):
    """Parses flags and gin, then runs the benchmarks."""
    model_dir, backbone = flags.FLAGS.model_dir, flags.FLAGS.backbone
    with launch.user_errors():
        if not (model_dir or backbone):
            raise ValueError(
                "--model_dir or --backbone must name a backbone. Received: none"
            )
        launch.parse_gin(flags.FLAGS.gin_file, flags.FLAGS.gin_param)
    benchmark(backbone or model_dir, model_dir)


if __name__ == "__main__":
    launch.define_flags()
    flags.DEFINE_string(
        "backbone", None, "backbone to evaluate instead of the run folder's export."
    )
    app.run(main)
