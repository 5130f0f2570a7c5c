"""Prints the table of all experiments: what each has reached, and what it cost.

python experiments/index.py
"""

import json
import pathlib
import statistics

from tables import METRIC, SCENES, SUITE, markdown, worst_verdict

ROOT = pathlib.Path(__file__).parent


def index_table() -> str:
    """One row per experiment of which something has been recorded."""
    rows = []
    for folder in sorted(path.parent for path in ROOT.glob("*/README.md")):
        found = _read_results(folder)
        if found:
            title = (folder / "README.md").read_text().partition("\n")[0].lstrip("# ")
            link = f"[{title}]({folder.name}/README.md)"
            hours = sum(map(_seconds, found.values())) / 3600
            reached = REACHED[folder.name](found)
            rows.append([link, reached, str(len(found)), f"{hours:.1f}"])
    return markdown(["experiment", "reached", "files", "hours"], rows)


def _read_results(folder):
    """Every JSON of an experiment by its name, but second runs of a seed."""
    paths = sorted([*folder.glob("*.json"), *folder.glob("results/*.json")])
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _seconds(record):
    """Of training and of all its benchmarks; of a script otherwise."""
    benchmarks = record.get("benchmarks", {}).values()
    trained = record.get("train_seconds", record.get("seconds")) or 0
    return trained + sum(found["seconds"] for found in benchmarks)


def _score(records, model="trained", benchmark="knn", metric=METRIC):
    """Mean over records."""
    found = [record["benchmarks"][benchmark]["results"][model] for record in records]
    return statistics.mean(values[metric] for values in found)


def _best_variant(found):
    name = max(found, key=lambda name: _score([found[name]]))
    scores = (
        _score([found[name]], x) for x in ("trained", "random_init", "raw_pixels")
    )
    return "kNN {:.1f} % (`{}`); random init {:.1f} %, raw pixels {:.1f} %".format(
        next(scores), name, *scores
    )


def _worst_variant(found):
    """Of one seed."""
    name = min(found, key=lambda name: _score([found[name]]))
    base = [found[name] for name in found if name.startswith("base")]
    return (
        f"kNN {_score(base):.1f} % (`base`) to {_score([found[name]]):.1f} % (`{name}`)"
    )


def _suite(found):
    records = list(found.values())
    parts = [
        f"{title} {_score(records, 'trained', name, metric):.1f} %"
        for name, metric, title in SUITE
        if name in records[0]["benchmarks"]
    ]
    return "; ".join(parts)


def _factors(found):
    base = [found[name] for name in found if name.startswith("base")]
    parts = []
    for factor in base[0]["benchmarks"]:
        trained, random_init = (
            _score(base, model, factor, "logistic/top1")
            for model in ("trained", "random_init")
        )
        parts.append(f"{factor} {trained:.0f} % (random init {random_init:.0f} %)")
    return ", ".join(parts)


def _verdicts(found):
    """A run is called out by any verdict but healthy."""
    called = {name: worst_verdict(found[name]) != "healthy" for name in found}
    whole = [called[name] for name in found if name.startswith("healthy")]
    broken = [called[name] for name in found if not name.startswith("healthy")]
    return (
        f"{sum(broken)} of {len(broken)} broken runs called out, "
        f"{sum(whole)} of {len(whole)} whole ones"
    )


def _scenes(found):
    parts = []
    for name, (*_, metric) in SCENES.items():
        value = found[name]["results"]["trained"][metric]
        parts.append(f"{metric.replace('/', ' ')} {value:.0f} %")
    return ", ".join(parts)


def _speed(found):
    views = found["views"]["arrays_224"]["ratio_to_stock"]
    fit = found["runs"]["fit"]["fresh_views_ratio"]
    return (
        f"views at 224 px {views:.1f} times as fast as stock keras-cv, `fit` {fit:.2f} "
        "of the bare step"
    )


REACHED = {
    "collapse": _verdicts,
    "factors_resnet18_64px": _factors,
    "fashion_mnist_resnet18_1h": _suite,
    "fashion_mnist_resnet18_search": _best_variant,
    "fashion_mnist_small_resnet18_36e": _suite,
    "method_resnet18_12e": _worst_variant,
    "scenes_resnet18_dense": _scenes,
    "speed": _speed,
}


if __name__ == "__main__":
    print(index_table())
