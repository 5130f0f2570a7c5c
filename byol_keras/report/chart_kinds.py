"""The charts of a page: quantities, titles and explanations."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from byol_keras.monitoring import shortcut_verdict
from byol_keras.monitoring.causes import PREFIXES
from byol_keras.report.stored_run import StoredRun


class Kind(NamedTuple):
    """One chart of a page.

    Args:
        title: str.
        quantities: logged name -> name in the legend.
        note: how to read the chart.
        scale: "linear", "zero" (linear, starting at 0) or "log".
    """

    title: str
    quantities: Mapping[str, str]
    note: str
    scale: str = "linear"


def _both(name):
    return {
        f"monitor/{name}": "representation",
        f"monitor/projection_{name}": "projections",
    }


KINDS = (
    Kind(
        "Loss",
        {"loss": ""},
        "Sum of both directions, 0 to 8. It may rise at times, since the target also "
        "changes. A loss near 0 from the start, with a falling spread, means collapse.",
    ),
    Kind("Learning rate", {"learning_rate": ""}, "Scheduled, at each step.", "zero"),
    Kind("Target decay, tau", {"tau": ""}, "Share of the target kept at each step."),
)
MONITORS = (
    Kind(
        "Effective rank (RankMe)",
        _both("rankme"),
        "Number of directions that the features use. More is better, all else equal.",
        "zero",
    ),
    Kind(
        "Spread of directions",
        _both("std"),
        "Near 1 for evenly spread features, 0 for features that are all equal.",
        "zero",
    ),
    Kind(
        "Mean cosine of two images",
        _both("cosine"),
        "1 if all features have the same direction.",
    ),
    Kind(
        "Alignment of two views",
        {"monitor/alignment": ""},
        "Squared distance between two views of an image. Lower is more invariant.",
        "zero",
    ),
    Kind("Uniformity", {"monitor/uniformity": ""}, "Lower is more evenly spread."),
    Kind(
        "Online network from target",
        {
            "monitor/target_distance": "projections",
            "monitor/weight_distance": "weights",
        },
        "Squared distance of unit projections, and relative distance of weights. If "
        "both stay at 0, nothing is learned.",
        "zero",
    ),
    Kind(
        "EMA horizon in images",
        {"monitor/ema_horizon": ""},
        "Number of images that the target averages over: batch size / (1 - tau).",
        "log",
    ),
    Kind(
        "Share of the strongest direction",
        {"monitor/top_eigenvalue_share": ""},
        "Its share of the variance of the representation.",
        "zero",
    ),
    Kind(
        "Decay of the spectrum",
        {"monitor/power_law_slope": ""},
        "The a in k^-a for the representation; near 1 for good ones of natural images.",
    ),
    Kind("Norm of the weights", {"monitor/weight_norm": ""}, "All kernels together."),
    Kind(
        "Shortcuts",
        {
            f"{shortcut_verdict.PREFIX}{name}": name
            for name in (*shortcut_verdict.FACTS, "file", "all")
        },
        "Share of the representation that simple facts about an image predict.",
        "zero",
    ),
)
SKIPPED = "skipped_steps"
SPEED = (
    Kind("Images per second", {"images_per_second": ""}, "Of training.", "zero"),
    Kind(
        "Waiting for input",
        {"input_wait_share": ""},
        "Share of the time. Above 0.1, faster input would speed up the run.",
        "zero",
    ),
    Kind("Skipped steps", {SKIPPED: ""}, "Steps with non-finite values.", "zero"),
)
_SCORE_NOTES = {
    "knn": "Vote of the k nearest labelled images, in percent.",
    "probe": "A linear classifier trained on the features, without effect on BYOL.",
}


def score_kinds(runs: Sequence[StoredRun]) -> list[Kind]:
    """A chart for each logged score; scores that differ in k only share one."""
    found = {}
    for name in sorted({name for run in runs for line in run.metrics for name in line}):
        if is_score(name):
            stem, k = re.fullmatch(r"(.+?)(?:_k(\d+))?", name).groups()
            found.setdefault(stem, {})[int(k or 0)] = name
    return [
        Kind(
            stem,
            {names[k]: f"k = {k}" if k else "" for k in sorted(names)},
            _SCORE_NOTES.get(stem.partition("/")[0], ""),
        )
        for stem, names in found.items()
    ]


def is_score(name: str) -> bool:
    """Whether a logged quantity is a score, which needs labels, and not a monitor."""
    return "/" in name and not name.startswith(PREFIXES)
