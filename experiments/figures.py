"""Draws recorded curves of experiments, and maps of the features of a backbone.

    python experiments/figures.py curves experiments/FOLDER
    python experiments/figures.py cost experiments/FOLDER ...
    python experiments/figures.py representation RUN_FOLDER --data=FOLDER --out=FOLDER

`curves` writes `curves.png` to the folder: loss, score and monitors of all its runs.
`cost` writes `cost.png` next to this file: scores by minutes of training.
`representation` writes `map.png` and `neighbours.png` of test images of Fashion-MNIST.
"""

import argparse
import functools
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from recorded import read_records, results_of
from tables import METRIC

from byol_keras import data, export
from byol_keras.report import representation

ROOT = pathlib.Path(__file__).parent
# Key in metrics.jsonl -> title of its panel.
PANELS = {
    "loss": "loss",
    METRIC: "weighted kNN, k = 20, top-1 in percent",
    "projection_std": "std of the normalised projection x sqrt(D)",
    "monitor/projection_rankme": "RankMe of the projection",
    "monitor/rankme": "RankMe of the representation",
    "monitor/weight_distance": "distance of online and target weights, relative",
}
QUERIES = 4
LINES = ("-", "--", ":")


def main():
    """Draws the figures of one command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    curves = commands.add_parser("curves")
    curves.add_argument("folder", type=pathlib.Path)
    curves.set_defaults(draw=draw_curves)
    cost = commands.add_parser("cost")
    cost.add_argument("folders", nargs="+", type=pathlib.Path)
    cost.set_defaults(draw=draw_cost)
    sample = commands.add_parser("representation")
    sample.add_argument("run_folder", type=pathlib.Path)
    sample.add_argument("--data", required=True, dest="test_data")
    sample.add_argument("--out", required=True, type=pathlib.Path)
    sample.set_defaults(draw=draw_representation)
    arguments = vars(parser.parse_args())
    arguments.pop("draw")(**arguments)


def draw_curves(folder: pathlib.Path) -> None:
    """One panel per quantity, one line per run."""
    records = read_records(folder)
    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8), layout="constrained")
    colours = matplotlib.colormaps["nipy_spectral"]
    names = list(records)
    lines = {key: _lines(records, key) for key in PANELS}
    shown = [key for key in PANELS if lines[key]]
    for panel, key in zip(axes.flat, shown, strict=False):
        for name, line in lines[key].items():
            number = names.index(name)
            style = {"color": colours(0.1 + 0.85 * number / len(names))}
            style["linestyle"] = LINES[number % len(LINES)]
            if name.startswith("base_seed"):
                style = {"color": "black", "linewidth": 3}
            style["marker"] = "o" if len(line) == 1 else None
            panel.plot(*zip(*line, strict=True), **style, label=name)
        panel.set(title=PANELS[key], xlabel="epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
    for panel in axes.flat[len(shown) :]:
        panel.set_visible(False)
    axes[0, 0].set_yscale("log")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.savefig(folder / "curves.png", dpi=100)


def _lines(records, key):
    """Epochs and values of a panel by name of the run, for runs that have any."""
    read = _scores if key == METRIC else functools.partial(_points, key=key)
    lines = {name: read(found) for name, found in records.items()}
    return {name: line for name, line in lines.items() if line}


def _points(found, key):
    """Epochs and values of a metric, from the epochs that logged it."""
    return [(x["epoch"], x[key]) for x in found["epochs"] if key in x]


def _scores(found):
    """Epochs and kNN accuracy during training, or else the final accuracy.

    One line never mixes both, because kNN during training may use fewer images.
    """
    final = [x["trained"][METRIC] for x in results_of([found], "knn")]
    last = found["epochs"][-1]["epoch"]
    return _points(found, METRIC) or [(last, score) for score in final]


def draw_cost(folders: list[pathlib.Path]) -> None:
    """Scores by minutes of training, for runs with a recorded duration.

    An interrupted run has none. All epochs of a run count as equally long.
    """
    figure, panel = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, folder in enumerate(folders):
        records = read_records(folder).values()
        for found in (x for x in records if x["train_seconds"] is not None):
            epochs, scores = zip(*_scores(found), strict=True)
            minutes = [found["train_seconds"] / 60 * x / epochs[-1] for x in epochs]
            panel.plot(minutes, scores, "-", color=f"C{number}", alpha=0.4)
            panel.plot(minutes[-1], scores[-1], "o", color=f"C{number}")
        panel.plot([], [], "o-", color=f"C{number}", label=folder.name)
    panel.set(xlabel="minutes of training", ylabel=PANELS[METRIC])
    figure.legend(loc="outside lower center")
    figure.savefig(ROOT / "cost.png", dpi=100)


def draw_representation(
    run_folder: pathlib.Path, test_data: str, out: pathlib.Path
) -> None:
    """Draws a map of 2,000 test images and the neighbours of some of them."""
    images = data.fashion_mnist_idx(test_data, "test")
    backbone = export.load_backbone(run_folder)
    sample = representation.take_sample(backbone, images, (28, 28, 1), 2000, 1, seed=0)
    _draw_map(sample, images.class_names, out / "map.png")
    _draw_neighbours(sample, images.class_names, out / "neighbours.png")


def _draw_map(sample, class_names, path):
    method, points = representation.embed_in_plane(sample.features, seed=0)
    figure, panel = pyplot.subplots(figsize=(8, 7), layout="constrained")
    for label, name in enumerate(class_names):
        chosen = points[sample.labels == label]
        panel.scatter(*chosen.T, s=6, color=f"C{label}", label=name)
    panel.set(xticks=[], yticks=[], title=f"{method} of {len(points)} test images")
    figure.legend(loc="outside right center", markerscale=3)
    figure.savefig(path, dpi=100)


def _draw_neighbours(sample, class_names, path):
    count = representation.NEIGHBOURS
    found = representation.find_neighbours(sample.features, sample.labels, count)
    groups = representation.choose_queries(found, sample.labels, QUERIES, seed=0)
    figure = pyplot.figure(figsize=(15, 5.5), layout="constrained")
    parts = figure.subfigures(1, len(groups))
    for part, (words, queries) in zip(parts, groups.values(), strict=True):
        part.suptitle(f"queries {words}", fontsize=10)
        cells = part.subplots(len(queries), count + 1)
        for row, query in zip(cells, queries, strict=True):
            for cell, place in zip(row, [query, *found.places[query]], strict=True):
                is_same = sample.labels[place] == sample.labels[query]
                cell.imshow(sample.thumbnails[place, ..., 0], cmap="gray")
                cell.set(xticks=[], yticks=[])
                cell.set_title(
                    class_names[sample.labels[place]],
                    fontsize=6,
                    color="black" if is_same else "red",
                )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
