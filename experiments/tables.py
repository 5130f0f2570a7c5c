"""Prints the Markdown table of an experiment from the JSON that the benchmarks wrote.

python experiments/tables.py experiments/fashion_mnist_small_resnet18_36e
"""

import json
import pathlib
import statistics
import sys

METRIC = "knn/top1_k20"
COLUMNS = {"raw_pixels": "raw pixels", "random_init": "random init", "trained": "BYOL"}


def table(folder: pathlib.Path) -> str:
    """One row per `results/*.json`, and their mean: kNN top-1 in percent, k = 20."""
    paths = sorted((folder / "results").glob("*.json"))
    rows = {path.stem: json.loads(path.read_text())["results"] for path in paths}
    values = {
        name: [results[column][METRIC] for column in COLUMNS]
        for name, results in rows.items()
    }
    means = [statistics.mean(column) for column in zip(*values.values(), strict=True)]
    lines = [
        f"| {METRIC} | {' | '.join(COLUMNS.values())} |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for name, row in {**values, "mean": means}.items():
        lines.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in row) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(pathlib.Path(sys.argv[1])))
