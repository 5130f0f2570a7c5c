"""Trains and evaluates configurations, and records the results.

    python experiments/record.py experiments/FOLDER/NAME.gin --seeds 0 1 2

runs `byol_keras.train` and `byol_keras.benchmarks` for each file and seed. It writes
`results/NAME_seedSEED.json` next to the file: values used, commit, machine, seconds,
verdicts, the doctor's first readings, one line of metrics per epoch, and benchmark
results. Recorded runs are skipped, and interrupted ones resume. `--again` repeats
recorded runs into `results/again/`; the same seed gives the same weights.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from byol_keras.report.stored_run import read_run

ROOT = pathlib.Path(__file__).parents[1]
KNN = ROOT / "gin/benchmarks/knn_fashion_mnist_small.gin"


def main():
    """Runs and records all files, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gin_files", nargs="+", type=pathlib.Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--benchmarks", nargs="+", type=pathlib.Path, default=[KNN])
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs/experiments")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    again = "again" if arguments.again else ""
    for seed in arguments.seeds:
        for file in arguments.gin_files:
            file = file.resolve()
            path = file.parent / "results" / again / f"{file.stem}_seed{seed}.json"
            if path.exists():
                print(f"{path.name} exists: skipped")
                continue
            run_folder = arguments.runs / again / file.parent.name / path.stem
            execute(file, seed, arguments.benchmarks, run_folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record(run_folder, seed), indent=1) + "\n")
            print(f"{path.name}: {summary(path)}", flush=True)


def execute(
    file: pathlib.Path,
    seed: int,
    benchmarks: Sequence[pathlib.Path],
    run_folder: pathlib.Path,
) -> None:
    """Trains, unless the run is complete, and evaluates."""
    if not (run_folder / "export/backbone.keras").exists():
        _command("train", file, f"train.seed={seed}", run_folder)
    for benchmark in benchmarks:
        _command("benchmarks", benchmark, f"benchmark.seed={seed}", run_folder)


def _command(module, gin_file, binding, run_folder):
    """Runs a command; its gin file may import modules from its own folder."""
    given = {"gin_file": gin_file, "gin_param": binding, "model_dir": run_folder}
    words = [f"--{name}={value}" for name, value in given.items()]
    subprocess.run(
        [sys.executable, "-m", f"byol_keras.{module}", *words],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{gin_file.parent}"},
    )


def record(run_folder: pathlib.Path, seed: int) -> dict:
    """Reads from a run folder all that the tables of an experiment need."""
    run = read_run(run_folder)
    last_of_epoch = {}
    for line in run.metrics:
        last_of_epoch.setdefault(line["epoch"], {}).update(line)
    starts = run.starts
    seconds = [start.get("seconds") for start in starts]
    return {
        "seed": seed,
        "config": run.settings,
        "commits": list(dict.fromkeys(start["commit"] for start in starts)),
        "machine": starts[-1]["machine"],
        "versions": starts[-1]["versions"],
        # None if a start was interrupted.
        "train_seconds": None if None in seconds else sum(seconds),
        "verdicts": run.health.get("changes", []),
        "first": run.health.get("first"),
        "epochs": list(last_of_epoch.values()),
        "benchmarks": {name: _scores(found) for name, found in run.records.items()},
    }


def _scores(found):
    """The part of a benchmark record that tables need, with the weights' digest."""
    kept = ("results", "interval", "seeds", "seconds", "commit")
    return {
        **{name: found[name] for name in kept},
        "backbone": found["identity"]["backbone"],
    }


def summary(path: pathlib.Path) -> str:
    """Scores of the trained backbone, in one line."""
    found = json.loads(path.read_text())["benchmarks"]
    return ", ".join(
        f"{metric} {value:.2f}"
        for scores in found.values()
        for metric, value in scores["results"]["trained"].items()
    )


if __name__ == "__main__":
    main()
