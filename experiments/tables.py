"""Prints the Markdown tables of an experiment from its JSON files.

python experiments/tables.py experiments/speed
"""

import itertools
import json
import pathlib
import re
import statistics
import sys

from recorded import by_variant, doctor_readings, read_records, results_of

from byol_keras.monitoring.representation import VERDICTS
from byol_keras.results.records import mean_and_interval

METRIC = "knn/top1_k20"
BASELINES = {"raw_pixels": "raw pixels", "random_init": "random init"}
MODELS = {**BASELINES, "trained": "BYOL"}
# Benchmark, its metric, and the header of its column.
SUITE = (
    ("knn", "knn/top1_k20", "kNN, k = 20"),
    ("linear", "linear/top1", "linear, AvgPool"),
    ("linear_features", "linear_features/best_top1", "linear, best of Feature1-5"),
    ("logistic", "logistic/top1", "logistic"),
    ("svm", "svm/best_mAP", "SVM, mAP"),
    ("finetune_1percent", "finetune/top1", "fine-tuned, 1 %"),
    ("finetune_10percent", "finetune/top1", "fine-tuned, 10 %"),
    ("finetune_100percent_rate_0.1", "finetune/top1", "all labels, rate 0.1"),
    ("finetune_100percent_rate_0.05", "finetune/top1", "all labels, rate 0.05"),
)

# Benchmark and metric of experiments/clothing_resnet18_views.
LEAVE_ONE_OUT = ("leave_one_out", "leave_one_out/top1_k20")
# Reading of the doctor -> title of its column.
READINGS = {
    "monitor/rankme": "RankMe",
    "monitor/projection_rankme": "RankMe of projections",
    "shortcut/color": "color",
    "shortcut/contrast": "contrast",
    "shortcut/blur": "blur",
    "shortcut/border": "border",
    "shortcut/thumbnail": "thumbnail",
    "shortcut/all": "all facts",
}

# Case in experiments/speed/views.json -> title of its row.
VIEWS = {
    "arrays_224": "224 px, from arrays",
    "arrays_96": "96 px, from arrays",
    "arrays_32": "32 px, from arrays",
    "jpeg_224": "224 px, from JPEG files of 500 x 375",
}

# Case in experiments/speed/reading.json -> title of its row.
READING = {
    "jpeg_500x375": "JPEG of 500 x 375, whole",
    "png_128x96": "PNG of 128 x 96, whole",
    "jpeg_32x32": "JPEG of 32 x 32, whole",
    "views_224_of_jpeg_500x375": "two views at 224 px of JPEG of 500 x 375",
    "views_32_of_jpeg_32x32": "two views at 32 px of JPEG of 32 x 32",
}

# Case in experiments/speed/steps.json -> title of its rows.
STEPS = {"resnet18_32px": "ResNet-18 at 32 px", "resnet50_96px": "ResNet-50 at 96 px"}

# Benchmark in experiments/scenes_resnet18_dense -> its metrics.
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


def markdown(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
    return markdown(header, rows)


def reading_table(folder: pathlib.Path) -> str:
    """One row per case of `reading.json`: images per second, ratio to an old commit."""
    found = json.loads((folder / "reading.json").read_text())
    rates = found["images_per_second"]
    ratios = found["ratio_to_the_other_checkout"]
    rows = [
        [title, f"{rates[case]:.0f}", f"{ratios[case]:.2f}"]
        for case, title in READING.items()
    ]
    return markdown(["files", "images per second", "ratio"], rows)


def ratios_table(folder: pathlib.Path) -> str:
    """Ratios of `steps.json`, `runs.json` and `safety.json`."""
    steps, runs, safety = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("steps", "runs", "safety")
    )
    rows = [*_step_rows(steps), *_cost_rows(steps), *_fit_rows(runs, safety)]
    return markdown(["what", "ratio", "measured"], rows)


def _step_rows(steps):
    """Ratio of a training step to its floor, and of a step in 16 bits to 32 bits."""
    for name, title in STEPS.items():
        case = steps[name]
        yield [
            f"{title}, batch {case['batch_size']}: step / floor",
            f"{case['ratio_to_floor']:.2f}",
            f"{case['byol_milliseconds']:.0f} ms; supervised step "
            f"{case['supervised_milliseconds']:.0f}, forward pass "
            f"{case['forward_milliseconds']:.0f}",
        ]
    flags = ", ".join(steps["precision"]["cpu_flags"]) or "no instructions"
    for name, title in STEPS.items():
        yield [
            f"{title}: step in mixed_bfloat16 / float32",
            f"{steps['precision']['ratio'][name]:.2f}",
            f"CPU with {flags} for 16 bits",
        ]


def _cost_rows(steps):
    """Share of EMA and LARS in a step, and peak memory."""
    share = steps["ema_and_lars"]
    memory = [steps[f"memory_{x}"]["gigabytes"] for x in ("byol", "supervised")]
    yield [
        f"ResNet-50 at {share['image_size']} px, batch {share['batch_size']}: "
        "moving average and LARS / step",
        f"{share['share']:.3f}",
        f"{share['ema_milliseconds']:.0f} and {share['lars_milliseconds']:.0f} of "
        f"{share['step_milliseconds']:.0f} ms",
    ]
    yield [
        "the same: peak memory / supervised at twice the batch",
        f"{steps['memory_ratio']:.2f}",
        f"{memory[0]:.2f} and {memory[1]:.2f} GiB",
    ]


def _fit_rows(runs, safety):
    """Ratio of `fit` to the bare step, and time until the first step of a run."""
    fit, start = runs["fit"], runs["start"]
    parts = [safety[part]["percent"] for part in ("guard", "doctor", "checkpoints")]
    yield [
        "ResNet-18 at 32 px: `fit` / bare step, cached views",
        f"{fit['cached_views_ratio']:.3f}",
        f"{fit['cached_views_milliseconds']:.0f} and {fit['bare_milliseconds']:.0f} ms",
    ]
    yield [
        "the same, views made meanwhile",
        f"{fit['fresh_views_ratio']:.3f}",
        f"{fit['fresh_views_milliseconds']:.0f} ms",
    ]
    yield [
        "the same: guard, collapse doctor and checkpoints",
        f"{safety['total_percent'] / 100:.3f}",
        ", ".join(f"{part:.2f}" for part in parts) + " %",
    ]
    yield [
        "`fashion_mnist_small_resnet18.gin`, from start of process to first step",
        "-",
        f"{start['first_step_seconds']:.1f} s, "
        f"{start['of_these_imports']:.1f} of them imports",
    ]


def scenes_table(folder: pathlib.Path) -> str:
    """One row per metric of `results/*_tiny.json`: percent and seconds."""
    rows = []
    for name, metrics in SCENES.items():
        found = json.loads((folder / "results" / f"{name}.json").read_text())
        for metric in metrics:
            value = found["results"]["trained"][metric]
            rows.append([name, metric, f"{value:.1f}", f"{found['seconds']:.0f}"])
    return markdown(["benchmark", "metric", "percent", "seconds"], rows)


def variants_table(folder: pathlib.Path) -> str:
    """One row per recorded configuration, the base first."""
    found = by_variant(folder)
    rows = [
        [title, "", _scores(found["base"], model, "knn", METRIC), *["-"] * 3]
        for model, title in BASELINES.items()
    ]
    for name, records in found.items():
        last = [doctor_readings(record)[-1] for record in records]
        rows.append(
            [
                name,
                difference(folder / f"{name}.gin"),
                _scores(records, "trained", "knn", METRIC),
                _mean([x["monitor/projection_rankme"] for x in last]),
                _worst_verdicts(records),
                _minutes(records),
            ]
        )
    header = ["variant", "difference", METRIC, "RankMe", "verdict", "minutes"]
    return markdown(header, rows)


def readings_table(folder: pathlib.Path) -> str:
    """One row per recorded configuration: kNN, and the doctor's last readings."""
    found = by_variant(folder)
    benchmark, metric = LEAVE_ONE_OUT
    rows = [
        [
            title,
            "",
            _scores(found["base"], model, benchmark, metric),
            *["-"] * len(READINGS),
        ]
        for model, title in BASELINES.items()
    ]
    for name, records in found.items():
        last = [doctor_readings(record)[-1] for record in records]
        readings = [_mean([x[key] for x in last], 2) for key in READINGS]
        score = _scores(records, "trained", benchmark, metric)
        rows.append([name, difference(folder / f"{name}.gin"), score, *readings])
    header = ["variant", "difference", "kNN, leave one out", *READINGS.values()]
    return markdown(header, rows)


def order_table(folder: pathlib.Path) -> str:
    """Rank correlation of kNN with each reading of the doctor, over all runs.

    Readings of facts count as negative: a representation that they predict is worse.
    """
    from scipy.stats import spearmanr

    benchmark, metric = LEAVE_ONE_OUT
    records = [x for found in by_variant(folder).values() for x in found]
    scores = [x["trained"][metric] for x in results_of(records, benchmark)]
    last = [doctor_readings(record)[-1] for record in records]
    rows = []
    for key, title in READINGS.items():
        sign = -1 if key.startswith("shortcut/") else 1
        found = spearmanr(scores, [sign * x[key] for x in last])
        rows.append([title, f"{found.statistic:.2f}", f"{found.pvalue:.3f}"])
    return markdown([f"reading, {len(scores)} runs", "rank correlation", "p"], rows)


def health_table(folder: pathlib.Path) -> str:
    """One row per recorded run: verdicts of the doctor and the readings behind them."""
    rows = []
    for name, found in read_records(folder).items():
        first, readings = found["first"], doctor_readings(found)
        ranks = [x["monitor/projection_rankme"] for x in readings]
        start = first["monitor/projection_rankme"]
        norm = readings[-1]["monitor/weight_norm"] / first["monitor/weight_norm"]
        rows.append(
            [
                name,
                ", ".join(f"{x['verdict']} {x['step']}" for x in found["verdicts"]),
                f"{min(x['monitor/projection_std'] for x in readings):.2f}",
                f"{min(ranks):.1f} of {start:.1f}",
                f"{norm:.2f}",
            ]
        )
    header = [
        "run",
        "verdicts, from step",
        "lowest std",
        "fewest directions, of those at the start",
        "last weight norm",
    ]
    return markdown(header, rows)


def scores_table(folder: pathlib.Path) -> str:
    """One row per model, one column per benchmark: means over the recorded seeds.

    The last row is the gain over random initialization, paired by seed.
    """
    (records,) = by_variant(folder).values()
    columns = suite_columns(records)
    rows = []
    for model, title in MODELS.items():
        scores = [_scores(records, model, *column[:2]) for column in columns]
        if any(score != "-" for score in scores):
            rows.append([title, *scores])
    rows.append(["gain over random init", *(_gain(records, *x[:2]) for x in columns)])
    header = "percent, one seed"
    if len(records) > 1:
        header = f"percent, {len(records)} seeds"
    return markdown([header, *(title for _, _, title in columns)], rows)


def suite_columns(records) -> list[tuple[str, str, str]]:
    """The rows of `SUITE` whose benchmark is recorded for at least one seed."""
    columns = []
    for benchmark, metric, title in SUITE:
        count = len(results_of(records, benchmark))
        if count:
            some = f" ({count} of the seeds)" if count < len(records) else ""
            columns.append((benchmark, metric, title + some))
    return columns


def _scores(records, model, benchmark, metric):
    """Mean and interval of a metric over the seeds; a dash if the model has none."""
    found = results_of(records, benchmark)
    if model not in found[0]:
        return "-"
    return _with_interval([x[model][metric] for x in found])


def _gain(records, benchmark, metric):
    """Mean and interval of the gain over random initialization, paired by seed."""
    found = results_of(records, benchmark)
    gains = [x["trained"][metric] - x["random_init"][metric] for x in found]
    return _with_interval(gains)


def _with_interval(values):
    means, intervals = mean_and_interval([{"": x} for x in values])
    # Raw pixels are the same for every seed.
    half_width = f" ± {intervals['']:.2f}" if intervals.get("") else ""
    return f"{means['']:.2f}{half_width}"


def factors_table(folder: pathlib.Path) -> str:
    """One row per configuration: accuracy of each factor's probe, in percent."""
    found = by_variant(folder)
    factors = list(found["base"][0]["benchmarks"])

    def probes(records, model):
        return [_scores(records, model, x, "logistic/top1") for x in factors]

    rows = [["random init", *probes(found["base"], "random_init"), "-", "-"]]
    for name, records in found.items():
        rows.append(
            [
                name,
                *probes(records, "trained"),
                _worst_verdicts(records),
                _minutes(records),
            ]
        )
    return markdown(["probe, percent", *factors, "verdict", "minutes"], rows)


def _minutes(records):
    """Mean minutes of training; a dash if no uninterrupted run is recorded."""
    known = [x["train_seconds"] for x in records if x["train_seconds"] is not None]
    return _mean([seconds / 60 for seconds in known]) if known else "-"


def _mean(values, digits=1):
    return f"{statistics.mean(values):.{digits}f}"


def difference(gin_file: pathlib.Path) -> str:
    """Difference of a configuration to the base, from its first comment."""
    lines = gin_file.read_text().splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.strip("# ") for line in comment)
    found = re.search(r"differences?: (.*)\.", text)
    return found.group(1) if found else ""


def _worst_verdicts(records):
    """The worst verdict of each seed, without duplicates."""
    found = [[x["verdict"] for x in record["verdicts"]] for record in records]
    return ", ".join(dict.fromkeys(max(x, key=VERDICTS.index) for x in found))


TABLES = {
    "clothing_resnet18_250e": (scores_table, health_table),
    "clothing_resnet18_views": (readings_table, order_table),
    "clothing_small_resnet18_120e": (scores_table, health_table),
    "clothing_small_resnet18_120e_plain": (scores_table, health_table),
    "factors_resnet18_64px": (factors_table,),
    "fashion_mnist_resnet18_20e": (scores_table,),
    "fashion_mnist_resnet18_8e": (scores_table,),
    "fashion_mnist_resnet18_labels": (scores_table,),
    "fashion_mnist_resnet18_search": (variants_table,),
    "fashion_mnist_small_resnet18_36e": (scores_table, health_table),
    "method_resnet18_12e": (variants_table, health_table),
    "scenes_resnet18_dense": (scenes_table,),
    "speed": (views_table, reading_table, ratios_table),
}


def of_experiment(folder: pathlib.Path) -> list[str]:
    """All tables of an experiment; none if it has no recorded results."""
    is_recorded = any(folder.glob("results/*")) or any(folder.glob("*.json"))
    return [make(folder) for make in TABLES[folder.name]] if is_recorded else []


if __name__ == "__main__":
    print("\n\n".join(of_experiment(pathlib.Path(sys.argv[1]).resolve())))
