"""Charts place points, ticks and labels correctly."""

import math

import numpy as np
import pytest

from byol_keras.report import charts
from byol_keras.report.chart_kinds import KINDS, MONITORS, SPEED
from byol_keras.report.stored_run import StoredRun, read_run

from support.runs import write_run


def run_with(lines, name="run"):
    """A run with these lines in its log, and no other file."""
    return StoredRun(name, "", lines, {}, [], {}, {}, False)


def loss_of(values):
    lines = [{"step": n + 1, "loss": value} for n, value in enumerate(values)]
    (kind,) = [kind for kind in KINDS if kind.title == "Loss"]
    return charts.make_charts([run_with(lines)], [kind])


def xy(segment):
    return np.array([point.split(",") for point in segment.split()], float)


def test_points_agree_with_the_ticks():
    (chart,) = loss_of([2.0, 4.0, 3.0, 1.0])
    ((ticks_low, low), *_, (ticks_high, high)) = chart.y_ticks
    places = xy(chart.lines[0].segments[0])
    values = float(low) + (places[:, 1] - ticks_low) / (ticks_high - ticks_low) * (
        float(high) - float(low)
    )
    np.testing.assert_allclose(values, [2.0, 4.0, 3.0, 1.0], atol=0.02)
    assert np.all(np.diff(places[:, 0]) > 0)
    assert chart.lines[0].last == "1"


def test_value_that_is_not_finite_separates_two_segments():
    (chart,) = loss_of([1.0, 2.0, math.nan, 4.0, 5.0])
    assert [len(xy(part)) for part in chart.lines[0].segments] == [2, 2]
    assert len(chart.lines[0].marks) == 4


def test_quantity_without_finite_values_has_no_chart():
    assert loss_of([]) == []
    assert loss_of([math.nan, math.inf]) == []


def test_long_curve_is_averaged_to_fewer_points():
    values = np.tile([1.0, 3.0], 5000)
    (chart,) = loss_of(values)
    (segment,) = chart.lines[0].segments
    assert 0.5 * charts.MOST_POINTS < len(xy(segment)) <= charts.MOST_POINTS
    assert len(set(xy(segment)[:, 1])) == 1  # the mean of both
    assert chart.lines[0].marks == []


def test_constant_curve_is_in_the_middle():
    (chart,) = loss_of([2.0, 2.0])
    inner = [y for y, _ in chart.y_ticks]
    assert min(inner) < xy(chart.lines[0].segments[0])[0, 1] < max(inner)


def test_two_runs_share_a_chart_with_their_names(tmp_path):
    runs = [read_run(write_run(tmp_path / name)) for name in ("a", "b")]
    (kind,) = [kind for kind in MONITORS if "RankMe" in kind.title]
    (chart,) = charts.make_charts(runs, [kind])
    labels = [(line.label, line.run) for line in chart.lines]
    assert labels == [("a representation", 0), ("b representation", 1)]


@pytest.mark.parametrize("values", [[0, 0], [0, 3]])
def test_skipped_steps_have_a_chart_only_if_there_are_any(values):
    lines = [{"step": n, "skipped_steps": value} for n, value in enumerate(values)]
    found = charts.make_charts([run_with(lines)], SPEED)
    assert bool(found) == any(values)


def test_logarithmic_axis_has_powers_of_ten():
    lines = [{"step": n, "monitor/ema_horizon": 10.0**n} for n in range(1, 6)]
    (chart,) = charts.make_charts([run_with(lines)], MONITORS)
    assert [text for _, text in chart.y_ticks] == ["10", "100", "1000", "10k", "100k"]
    heights = xy(chart.lines[0].segments[0])[:, 1]
    np.testing.assert_allclose(np.diff(heights), heights[1] - heights[0], atol=0.21)


def test_power_law_is_a_straight_line_in_the_chart_of_spectra():
    values = np.arange(1, 101) ** -1.5
    chart = charts.chart_of_spectra([("", 0, 0, values)])
    places = xy(chart.lines[0].segments[0])
    line = np.polyfit(places[:, 0], places[:, 1], 1)
    np.testing.assert_allclose(np.polyval(line, places[:, 0]), places[:, 1], atol=0.3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        (81.5, "81.5"),
        (12345.0, "12.3k"),
        (2.5e6, "2.5M"),
        (3e9, "3G"),
        (math.inf, "inf"),
    ],
)
def test_short_number(value, text):
    assert charts.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(81.5, "81.50"), (1.00004, "1.000"), (3.0, "3"), (2e6, "2M")]
)
def test_reading_has_four_digits(value, text):
    assert charts.reading(value) == text
