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

# Case of experiments/speed/views.json, and its title.
VIEWS = {
    "arrays_224": "224 px, from arrays",
    "arrays_96": "96 px, from arrays",
    "arrays_32": "32 px, from arrays",
    "jpeg_224": "224 px, from JPEG files of 500 x 375",
}

# Benchmark of experiments/scenes_resnet18_dense, and its metrics.
SCENES = {
    "detection_voc_tiny": ["detection_voc/AP50"],
    "detection_coco_tiny": [
        f"detection_coco/{kind}_{metric}"
        for kind in ("box", "mask")
        for metric in ("AP", "AP50")
    ],
    "segmentation_voc_tiny": ["segmentation_voc/mIoU"],
    "segmentation_cityscapes_tiny": ["segmentation_cityscapes/mIoU"],
}


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


def views_table(folder: pathlib.Path) -> str:
    """One row per size of view in `views.json`: pairs of views per second."""
    found = json.loads((folder / "views.json").read_text())
    rows = []
    for name, title in VIEWS.items():
        case = found[name]
        others = ["stock", "stock_without_gates"]
        rates = [case.get(f"{x}_pairs_per_second") for x in ["ours", *others]]
        ratios = [case.get(f"ratio_to_{x}") for x in others]
        cells = [
            *(x and f"{x:.0f}" for x in rates),
            *(x and f"{x:.1f}" for x in ratios),
        ]
        rows.append([title, *(x or "-" for x in cells)])
    header = ["views", "ours", "stock", "stock, no gates", "ratio", "ratio, no gates"]
    return _markdown(header, rows)


def scenes_table(folder: pathlib.Path) -> str:
    """One row per metric of the `results/*_tiny.json`, in percent, and what it took."""
    rows = []
    for name, metrics in SCENES.items():
        found = json.loads((folder / "results" / f"{name}.json").read_text())
        for metric in metrics:
            value = found["results"]["trained"][metric]
            rows.append([name, metric, f"{value:.1f}", f"{found['seconds']:.0f}"])
    return _markdown(["benchmark", "metric", "percent", "seconds"], rows)


if __name__ == "__main__":
    experiment = pathlib.Path(sys.argv[1])
    if (experiment / "views.json").is_file():
        print(views_table(experiment))
        sys.exit()
    if (experiment / "results/detection_voc_tiny.json").is_file():
        print(scenes_table(experiment))
        sys.exit()
    print(seeds_table(experiment))
    if (experiment / "results/suite").is_dir():
        print(f"\n{suite_table(experiment)}")
