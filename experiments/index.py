"""Prints the table of all experiments: their main results and hours.

python experiments/index.py
"""

import itertools
import json
import pathlib
import statistics

from recorded import by_variant, results_of
from tables import LEAVE_ONE_OUT, METRIC, SCENES, markdown, suite_columns

ROOT = pathlib.Path(__file__).parent


def index_table() -> str:
    """One row per experiment with recorded results."""
    rows = []
    for folder in sorted(path.parent for path in ROOT.glob("*/README.md")):
        found = _read_results(folder)
        if found:
            title = (folder / "README.md").read_text().partition("\n")[0].lstrip("# ")
            link = f"[{title}]({folder.name}/README.md)"
            reached = REACHED[folder.name](folder)
            rows.append([link, reached, str(len(found)), _hours(found.values())])
    return markdown(["experiment", "reached", "files", "hours"], rows)


def _read_results(folder):
    """All JSON files of an experiment by name, without repeated runs of a seed."""
    paths = sorted([*folder.glob("*.json"), *folder.glob("results/*.json")])
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _hours(records):
    """Recorded hours of training and benchmarks, or of a script; `>` if incomplete."""
    seconds = [x.get("train_seconds", x.get("seconds")) for x in records]
    benchmarks = itertools.chain(*(x.get("benchmarks", {}).values() for x in records))
    total = sum(x["seconds"] for x in benchmarks) + sum(filter(None, seconds))
    more = "> " if None in seconds else ""
    return f"{more}{total / 3600:.1f}" if any(seconds) else "-"


def _score(records, model="trained", benchmark="knn", metric=METRIC):
    """Mean score over records."""
    return statistics.mean(x[model][metric] for x in results_of(records, benchmark))


def _best_variant(folder):
    found = by_variant(folder)
    name = max(found, key=lambda name: _score(found[name]))
    scores = (_score(found[name], x) for x in ("trained", "random_init", "raw_pixels"))
    return "kNN {:.1f} % (`{}`); random init {:.1f} %, raw pixels {:.1f} %".format(
        next(scores), name, *scores
    )


def _best_views(folder):
    found = by_variant(folder)
    scores = {name: _score(x, "trained", *LEAVE_ONE_OUT) for name, x in found.items()}
    name = max(scores, key=scores.get)
    start = _score(found["base"], "random_init", *LEAVE_ONE_OUT)
    return f"kNN {scores[name]:.1f} % (`{name}`); random init {start:.1f} %"


def _worst_variant(folder):
    found = by_variant(folder)
    name = min(found, key=lambda name: _score(found[name]))
    base, worst = (_score(found[x]) for x in ("base", name))
    return f"kNN {base:.1f} % (`base`) to {worst:.1f} % (`{name}`)"


def _suite(folder):
    (records,) = by_variant(folder).values()
    parts = [
        f"{title} {_score(records, 'trained', name, metric):.1f} %"
        for name, metric, title in suite_columns(records)
    ]
    return "; ".join(parts)


def _both(records, benchmark, metric):
    """Mean scores of the trained backbone and of its initial weights."""
    models = ("trained", "random_init")
    return [_score(records, model, benchmark, metric) for model in models]


def _labels(folder):
    (records,) = by_variant(folder).values()
    parts = []
    for name, metric, title in suite_columns(records):
        trained, random_init = _both(records, name, metric)
        parts.append(f"{title}: {trained:.1f} % (random init {random_init:.1f} %)")
    return "; ".join(parts)


def _factors(folder):
    base = by_variant(folder)["base"]
    parts = []
    for factor in base[0]["benchmarks"]:
        trained, random_init = _both(base, factor, "logistic/top1")
        parts.append(f"{factor} {trained:.0f} % (random init {random_init:.0f} %)")
    return ", ".join(parts)


def _scenes(folder):
    found = _read_results(folder)
    parts = []
    for name, (*_, metric) in SCENES.items():
        value = found[name]["results"]["trained"][metric]
        parts.append(f"{metric.replace('/', ' ')} {value:.0f} %")
    return ", ".join(parts)


def _speed(folder):
    found = _read_results(folder)
    views = found["views"]["arrays_224"]["ratio_to_stock"]
    fit = found["runs"]["fit"]["fresh_views_ratio"]
    return (
        f"views at 224 px {views:.1f} times as fast as stock keras-cv, `fit` {fit:.2f} "
        "of the bare step"
    )


REACHED = {
    "clothing_resnet18_250e": _suite,
    "clothing_small_resnet18_120e": _suite,
    "clothing_small_resnet18_120e_plain": _suite,
    "clothing_resnet18_views": _best_views,
    "factors_resnet18_64px": _factors,
    "fashion_mnist_resnet18_20e": _suite,
    "fashion_mnist_resnet18_8e": _suite,
    "fashion_mnist_resnet18_labels": _labels,
    "fashion_mnist_resnet18_search": _best_variant,
    "fashion_mnist_small_resnet18_36e": _suite,
    "method_resnet18_12e": _worst_variant,
    "scenes_resnet18_dense": _scenes,
    "speed": _speed,
}


if __name__ == "__main__":
    print(index_table())
