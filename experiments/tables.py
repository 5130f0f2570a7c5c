"""Prints the Markdown tables of an experiment from the JSON that the benchmarks wrote.

python experiments/tables.py experiments/fashion_mnist_small_resnet18_36e
"""

import json
import pathlib
import statistics
import sys

MODELS = {"raw_pixels": "raw pixels", "random_init": "random init", "trained": "BYOL"}
METRIC = "knn/top1_k20"
# Benchmark of the suite, its metric, and the header of the column.
SUITE = (
    ("knn", "knn/top1_k20", "kNN, k = 20"),
    ("linear", "linear/top1", "linear, AvgPool"),
    ("linear_features", "linear_features/best_top1", "linear, best of Feature1-5"),
    ("logistic", "logistic/top1", "logistic"),
    ("svm", "svm/best_mAP", "SVM, mAP"),
    ("finetune_1percent", "finetune/top1", "fine-tuned, 1 %"),
    ("finetune_10percent", "finetune/top1", "fine-tuned, 10 %"),
)


def _markdown(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seeds_table(folder: pathlib.Path) -> str:
    """One row per `results/seed*.json`, and their mean, in percent."""
    paths = sorted((folder / "results").glob("seed*.json"))
    rows = {path.stem: json.loads(path.read_text())["results"] for path in paths}
    values = {
        name: [results[model][METRIC] for model in MODELS]
        for name, results in rows.items()
    }
    means = [statistics.mean(column) for column in zip(*values.values(), strict=True)]
    return _markdown(
        [METRIC, *MODELS.values()],
        [
            [name, *(f"{x:.2f}" for x in row)]
            for name, row in {**values, "mean": means}.items()
        ],
    )


def suite_table(folder: pathlib.Path) -> str:
    """One row per model, one column per benchmark of `results/suite/`, in percent."""
    columns = [
        json.loads((folder / "results/suite" / f"{name}.json").read_text())["results"]
        for name, _, _ in SUITE
    ]
    rows = []
    for model, title in MODELS.items():
        cells = [
            f"{results[model][metric]:.2f}" if model in results else "-"
            for results, (_, metric, _) in zip(columns, SUITE, strict=True)
        ]
        rows.append([title, *cells])
    return _markdown(["percent", *(header for _, _, header in SUITE)], rows)


if __name__ == "__main__":
    experiment = pathlib.Path(sys.argv[1])
    print(seeds_table(experiment))
    if (experiment / "results/suite").is_dir():
        print(f"\n{suite_table(experiment)}")
