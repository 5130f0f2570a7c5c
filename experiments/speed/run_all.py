"""Runs all measurements of this folder, in half an hour, and plots them.

    pip install "byol_keras[report]"
    python experiments/speed/run_all.py

Run nothing else meanwhile. Writes the JSON file of each script, and `speed.png`.
"""

import json
import pathlib
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = pathlib.Path(__file__).parent
SCRIPTS = ("views", "steps", "runs", "safety", "frozen_features")
VIEWS = {"224": "arrays_224", "96": "arrays_96", "32": "arrays_32", "JPEG": "jpeg_224"}
STEPS = {"ResNet-18\n32 px": "resnet18_32px", "ResNet-50\n96 px": "resnet50_96px"}
OURS, OTHERS = "#1b6ca8", "#c9ced6"


def plot() -> None:
    """Draws `speed.png` from the JSON files."""
    found = {
        name: json.loads((FOLDER / f"{name}.json").read_text()) for name in SCRIPTS
    }
    figure, (views, steps, shares) = pyplot.subplots(1, 3, figsize=(12, 3.6))
    _plot_views(views, found["views"])
    _plot_steps(steps, found["steps"])
    _plot_shares(shares, found)
    for axes in (views, steps, shares):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(FOLDER / "speed.png", dpi=120)


def _plot_views(axes, found):
    for place, (key, color, label) in enumerate(
        [("stock", OTHERS, "stock keras-cv"), ("ours", OURS, "byol_keras")]
    ):
        rates = [found[case][f"{key}_pairs_per_second"] for case in VIEWS.values()]
        positions = [x + 0.4 * place - 0.2 for x in range(len(rates))]
        bars = axes.bar(positions, rates, 0.4, color=color, label=label)
        if key == "ours":
            ratios = [
                f"{found[case]['ratio_to_stock']:.1f} x" for case in VIEWS.values()
            ]
            axes.bar_label(bars, ratios)
    axes.set_yscale("log")
    axes.set_xticks(range(len(VIEWS)), VIEWS)
    axes.set_title("pairs of views per second")
    axes.set_xlabel("pixels")
    axes.legend(frameon=False, loc="upper left")
    axes.margins(y=0.25)


def _plot_steps(axes, found):
    for place, case in enumerate(STEPS.values()):
        times = found[case]
        supervised = 2 * times["supervised_milliseconds"]
        forward = 2 * times["forward_milliseconds"]
        names = ("2 supervised steps", "2 forward passes", "BYOL step")
        labels = names if place == 0 else ("", "", "")
        axes.bar(place - 0.2, supervised, 0.4, color=OTHERS, label=labels[0])
        axes.bar(
            place - 0.2, forward, 0.4, supervised, color="#9aa3af", label=labels[1]
        )
        bar = axes.bar(
            place + 0.2, times["byol_milliseconds"], 0.4, color=OURS, label=labels[2]
        )
        axes.bar_label(bar, [f"{times['ratio_to_floor']:.2f}"])
    axes.set_xticks(range(len(STEPS)), STEPS)
    axes.set_title("training step against its floor, ms")
    axes.legend(frameon=False, loc="upper left")
    axes.margins(y=0.35)


def _plot_shares(axes, found):
    fit, safety = found["runs"]["fit"], found["safety"]
    percent = {
        "moving average and LARS\n(ResNet-50)": 100
        * found["steps"]["ema_and_lars"]["share"],
        "fit, cached views": 100 * (fit["cached_views_ratio"] - 1),
        "fit, fresh views": 100 * (fit["fresh_views_ratio"] - 1),
        "guard": safety["guard"]["percent"],
        "collapse doctor": safety["doctor"]["percent"],
        "checkpoints": safety["checkpoints"]["percent"],
    }
    bars = axes.barh(list(percent), list(percent.values()), color=OURS)
    axes.bar_label(bars, [f" {x:.1f}" for x in percent.values()])
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_title("percent of a step")


def main():
    """Runs the scripts one after another, then plots."""
    for name in SCRIPTS:
        print(f"{name}.py", flush=True)
        script = str(FOLDER / f"{name}.py")
        subprocess.run([sys.executable, script], check=True, stdout=subprocess.DEVNULL)
    plot()


if __name__ == "__main__":
    main()
