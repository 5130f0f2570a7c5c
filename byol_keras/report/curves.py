"""Curves of one or several runs: what is drawn, and where, in numbers for the page."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib import ticker

from byol_keras.report.run_folder import RunFolder

# Of a drawing, in the units of its SVG.
WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 24
# More points than a drawing has columns of pixels are averaged.
MOST_POINTS = 240
# Curves of so few points show each of them.
MOST_MARKS = 40


class Kind(NamedTuple):
    """A drawing that a page may have.

    Args:
        title: str.
        quantities: names, as they are logged, and what the legend calls them.
        note: what to look for, in a sentence.
        scale: "linear", "zero" (linear, from 0) or "log".
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
        "Both directions summed, 0 to 8. It need not fall all the time: the target "
        "moves too. Near 0 from the start, with a falling spread, it means collapse.",
    ),
    Kind("Learning rate", {"learning_rate": ""}, "Of each step, as scheduled.", "zero"),
    Kind(
        "Target decay, tau", {"tau": ""}, "The share of itself that the target keeps."
    ),
)
MONITORS = (
    Kind(
        "Effective rank (RankMe)",
        _both("rankme"),
        "How many directions the features use. More is better, other things equal.",
        "zero",
    ),
    Kind(
        "Spread of directions",
        _both("std"),
        "Near 1 where features are spread out evenly, 0 where all are the same.",
        "zero",
    ),
    Kind(
        "Mean cosine of two images",
        _both("cosine"),
        "1 where all features point the same way.",
    ),
    Kind(
        "Alignment of two views",
        {"monitor/alignment": ""},
        "Squared distance of two views of an image. Lower is more invariant.",
        "zero",
    ),
    Kind("Uniformity", {"monitor/uniformity": ""}, "Lower is more evenly spread."),
    Kind(
        "Online network from target",
        {
            "monitor/target_distance": "projections",
            "monitor/weight_distance": "weights",
        },
        "Squared distance of unit projections, and relative distance of weights. 0 "
        "throughout: nothing is learned.",
        "zero",
    ),
    Kind(
        "EMA horizon in images",
        {"monitor/ema_horizon": ""},
        "Over so many images the target averages: batch size / (1 - tau).",
        "log",
    ),
    Kind(
        "Share of the strongest direction",
        {"monitor/top_eigenvalue_share": ""},
        "Of the variance of the representation.",
        "zero",
    ),
    Kind(
        "Decay of the spectrum",
        {"monitor/power_law_slope": ""},
        "The a in k^-a, of the representation; near 1 in good ones of natural images.",
    ),
    Kind("Norm of the weights", {"monitor/weight_norm": ""}, "Of all kernels."),
)
SKIPPED = "skipped_steps"
SPEED = (
    Kind("Images per second", {"images_per_second": ""}, "In training.", "zero"),
    Kind(
        "Waiting for input",
        {"input_wait_share": ""},
        "Share of the time. Above 0.1, faster input would make the run faster.",
        "zero",
    ),
    Kind("Skipped steps", {SKIPPED: ""}, "Their numbers were not finite.", "zero"),
)
_SCORE_NOTES = {
    "knn": "Vote of the k nearest images with labels, in percent.",
    "probe": "A linear classifier that learns beside BYOL, without touching it.",
}


class Line(NamedTuple):
    """One curve, in pixels.

    Args:
        label: str. Empty where there is one curve only.
        run, place: int. Number of the run and of the quantity, for colour and dashes.
        segments: "x,y x,y ..." each; values that are not finite part them.
        marks: x, y and text of every point, where there are few.
        last: str. The last value of a curve over time.
    """

    label: str
    run: int
    place: int
    segments: list[str]
    marks: list[tuple[float, float, str]]
    last: str


class Drawing(NamedTuple):
    """A drawing as the page needs it: positions in pixels, texts, lines."""

    title: str
    note: str
    x_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def draw_all(runs: Sequence[RunFolder], kinds: Iterable[Kind]) -> list[Drawing]:
    """Drawings of the quantities that any of the runs has logged."""
    return [found for kind in kinds if (found := _draw(runs, kind))]


def score_kinds(runs: Sequence[RunFolder]) -> list[Kind]:
    """A drawing for each score that was logged; those of several k share one."""
    found = {}
    for name in _logged(runs):
        if "/" in name and not name.startswith("monitor/"):
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


def draw_spectra(series: Sequence[tuple[str, int, int, Sequence[float]]]) -> Drawing:
    """Eigenvalues over their ranks, both on logarithmic scales.

    Args:
        series: label, number of the run, place within it, and eigenvalues, the
            largest first. Each is shown as a share of their sum.
    """
    lines = []
    for label, run, place, values in series:
        total = sum(values) or 1.0
        shares = [(rank, value / total) for rank, value in enumerate(values, 1)]
        lines.append((label, run, place, [p for p in shares if p[1] > 1e-8]))
    note = "Share of the variance in each direction, the strongest first."
    title = "Spectrum of the covariance"
    return _drawing(title, note, lines, "log", x_name="rank", x_scale="log")


def short(value: float) -> str:
    """A number in few characters."""
    if not math.isfinite(value):
        return str(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            divisor = 1e3 if unit == "k" else limit
            return f"{value / divisor:.3g}{unit}"
    return f"{value:.4g}"


def reading(value: float) -> str:
    """A value in four digits, also where the last ones are 0."""
    if not math.isfinite(value) or value == int(value) or abs(value) >= 1e4:
        return short(value)
    return f"{value:#.4g}".rstrip(".")


def _logged(runs):
    return sorted({name for run in runs for line in run.metrics for name in line})


def _draw(runs, kind):
    lines = []
    for number, run in enumerate(runs):
        for place, (name, label) in enumerate(kind.quantities.items()):
            points = run.series(name)
            words = [run.name] if len(runs) > 1 else []
            if any(math.isfinite(value) for _, value in points):
                lines.append((" ".join([*words, label]).strip(), number, place, points))
    is_silent = SKIPPED in kind.quantities and not any(
        value for line in lines for _, value in line[3]
    )
    if not lines or is_silent:
        return None
    return _drawing(kind.title, kind.note, lines, kind.scale)


def _drawing(title, note, lines, scale, x_name="step", x_scale="linear"):
    finite = [p for line in lines for p in line[3] if math.isfinite(p[1])]
    x_ticks, to_x = _axis([x for x, _ in finite], x_scale, _LEFT, WIDTH - _RIGHT, True)
    y_ticks, to_y = _axis([y for _, y in finite], scale, HEIGHT - _BOTTOM, _TOP)
    drawn = []
    for label, run, place, points in lines:
        parts = [
            [(round(to_x(x), 1), round(to_y(y), 1)) for x, y in part]
            for part in _segments(points, scale)
        ]
        segments = [" ".join(f"{x},{y}" for x, y in part) for part in parts]
        marks = []
        if len(points) <= MOST_MARKS:
            marks = [
                (round(to_x(x), 1), round(to_y(y), 1), f"{reading(y)} at {x}")
                for x, y in points
                if math.isfinite(y) and (scale != "log" or y > 0.0)
            ]
        last = reading(points[-1][1]) if points and x_scale == "linear" else ""
        drawn.append(Line(label, run, place, segments, marks, last))
    return Drawing(title, note, x_name, x_ticks, y_ticks, drawn)


def _axis(values, scale, first, last, integer=False):
    """Ticks in pixels with their texts, and the function from values to pixels."""
    low, high = min(values), max(values)
    if scale == "log":
        low = low if low > 0.0 else min((v for v in values if v > 0.0), default=1.0)
        low, high = math.log10(low), math.log10(max(high, low))
    low = min(low, 0.0) if scale == "zero" else low
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    low = low if scale == "zero" else low - margin
    high += margin

    def place(value):
        if scale == "log":
            value = math.log10(max(value, 10.0**low))
        return first + (value - low) / (high - low) * (last - first)

    if scale == "log" and high - low > 1.5:
        at = [10.0**n for n in range(math.ceil(low), math.floor(high) + 1)]
        at = at[:: math.ceil(len(at) / 5)]
    else:
        bounds = (10.0**low, 10.0**high) if scale == "log" else (low, high)
        at = [
            float(tick)
            for tick in ticker.MaxNLocator(4, integer=integer).tick_values(*bounds)
            if bounds[0] <= tick <= bounds[1]
        ]
    return [(round(place(tick), 1), short(tick)) for tick in at], place


def _segments(points, scale):
    """Runs of finite points, each at most `MOST_POINTS` of them together."""
    size = math.ceil(len(points) / MOST_POINTS)
    part, parts = [], []
    for begin in range(0, len(points), size):
        group = points[begin : begin + size]
        finite = [p for p in group if math.isfinite(p[1])]
        if scale == "log":
            finite = [p for p in finite if p[1] > 0.0]
        if finite:
            count = len(finite)
            part.append(
                (sum(x for x, _ in finite) / count, sum(y for _, y in finite) / count)
            )
        if part and len(finite) < len(group):
            parts.append(part)
            part = []
    return [*parts, part] if part else parts
