"""Charts of one or several runs, as coordinates and texts for the page."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib import ticker

from byol_keras.report.chart_kinds import SKIPPED, Kind
from byol_keras.report.stored_run import StoredRun

# Size and margins of a chart in the units of its SVG.
WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 24
# Longer curves are averaged to this number of points, which a screen can resolve.
MOST_POINTS = 240
# Curves of up to this number of points have a mark at each.
MOST_MARKS = 40


class Line(NamedTuple):
    """One curve, in pixels.

    Args:
        label: str. Empty if the chart has no other curve.
        run, place: ints. Index of the run and of the quantity, for colour and dashes.
        segments: strings "x,y x,y ..."; a value that is not finite separates two.
        marks: x, y and text of every point of a short curve.
        last: str. The last value of a curve over time.
    """

    label: str
    run: int
    place: int
    segments: list[str]
    marks: list[tuple[float, float, str]]
    last: str


class Chart(NamedTuple):
    """The texts of a chart, and its ticks and lines in pixels."""

    title: str
    note: str
    x_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def make_charts(runs: Sequence[StoredRun], kinds: Iterable[Kind]) -> list[Chart]:
    """Charts of all quantities that at least one of the runs has logged."""
    return [found for kind in kinds if (found := _chart_of_kind(runs, kind))]


def chart_of_spectra(
    series: Sequence[tuple[str, int, int, Sequence[float]]],
) -> Chart:
    """Eigenvalues over their ranks, both on logarithmic scales.

    Args:
        series: label, index of the run, index of the curve in it, and eigenvalues in
            falling order. The chart shows their shares of the sum.
    """
    lines = []
    for label, run, place, values in series:
        total = sum(values) or 1.0
        shares = [(rank, value / total) for rank, value in enumerate(values, 1)]
        lines.append((label, run, place, [p for p in shares if p[1] > 1e-8]))
    note = "Share of the variance in each direction, the strongest first."
    title = "Spectrum of the covariance"
    return _chart(title, note, lines, "log", x_name="rank", x_scale="log")


def short(value: float) -> str:
    """A number as a short text."""
    if not math.isfinite(value):
        return str(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            divisor = 1e3 if unit == "k" else limit
            return f"{value / divisor:.3g}{unit}"
    return f"{value:.4g}"


def reading(value: float) -> str:
    """A value with four digits, including zeros at the end."""
    if not math.isfinite(value) or value == int(value) or abs(value) >= 1e4:
        return short(value)
    return f"{value:#.4g}".rstrip(".")


def _chart_of_kind(runs, kind):
    lines = []
    for number, run in enumerate(runs):
        for place, (name, label) in enumerate(kind.quantities.items()):
            points = run.series(name)
            words = [run.name] if len(runs) > 1 else []
            if any(math.isfinite(value) for _, value in points):
                lines.append((" ".join([*words, label]).strip(), number, place, points))
    is_all_zero = SKIPPED in kind.quantities and not any(
        value for line in lines for _, value in line[3]
    )
    if not lines or is_all_zero:
        return None
    return _chart(kind.title, kind.note, lines, kind.scale)


def _chart(title, note, lines, scale, x_name="step", x_scale="linear"):
    finite = [p for line in lines for p in line[3] if math.isfinite(p[1])]
    x_ticks, to_x = _axis([x for x, _ in finite], x_scale, _LEFT, WIDTH - _RIGHT, True)
    y_ticks, to_y = _axis([y for _, y in finite], scale, HEIGHT - _BOTTOM, _TOP)
    curves = []
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
        curves.append(Line(label, run, place, segments, marks, last))
    return Chart(title, note, x_name, x_ticks, y_ticks, curves)


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
    """Sequences of finite points, averaged to at most `MOST_POINTS` in total."""
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
