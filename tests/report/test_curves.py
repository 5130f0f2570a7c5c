import math

import numpy as np
import pytest

from byol_keras.report import curves
from byol_keras.report.run_folder import RunFolder, read_run

from support.runs import write_run


def run_with(lines, name="run"):
    """A run that has logged these lines and nothing else."""
    return RunFolder(name, "", lines, {}, [], {}, {}, False)


def loss_of(values):
    lines = [{"step": n + 1, "loss": value} for n, value in enumerate(values)]
    (kind,) = [kind for kind in curves.KINDS if kind.title == "Loss"]
    return curves.draw_all([run_with(lines)], [kind])


def xy(segment):
    return np.array([point.split(",") for point in segment.split()], float)


def test_points_lie_where_the_ticks_say():
    (drawing,) = loss_of([2.0, 4.0, 3.0, 1.0])
    ((ticks_low, low), *_, (ticks_high, high)) = drawing.y_ticks
    places = xy(drawing.lines[0].segments[0])
    values = float(low) + (places[:, 1] - ticks_low) / (ticks_high - ticks_low) * (
        float(high) - float(low)
    )
    np.testing.assert_allclose(values, [2.0, 4.0, 3.0, 1.0], atol=0.02)
    assert np.all(np.diff(places[:, 0]) > 0)
    assert drawing.lines[0].last == "1"


def test_value_that_is_not_finite_parts_the_curve():
    (drawing,) = loss_of([1.0, 2.0, math.nan, 4.0, 5.0])
    assert [len(xy(part)) for part in drawing.lines[0].segments] == [2, 2]
    assert len(drawing.lines[0].marks) == 4


def test_quantity_that_nobody_logged_is_not_drawn():
    assert loss_of([]) == []
    assert loss_of([math.nan, math.inf]) == []


def test_long_curve_is_averaged_to_the_columns_of_the_drawing():
    values = np.tile([1.0, 3.0], 5000)
    (drawing,) = loss_of(values)
    (segment,) = drawing.lines[0].segments
    assert 0.5 * curves.MOST_POINTS < len(xy(segment)) <= curves.MOST_POINTS
    assert len(set(xy(segment)[:, 1])) == 1  # the mean of both
    assert drawing.lines[0].marks == []


def test_constant_curve_is_drawn_in_the_middle():
    (drawing,) = loss_of([2.0, 2.0])
    inner = [y for y, _ in drawing.y_ticks]
    assert min(inner) < xy(drawing.lines[0].segments[0])[0, 1] < max(inner)


def test_scores_of_several_k_share_a_drawing_in_the_order_of_k():
    line = {"step": 1, "knn/top1_k100": 1.0, "knn/top1_k20": 2.0, "probe/loss": 3.0}
    runs = [run_with([line | {"monitor/rankme": 1.0, "loss": 1.0}])]
    drawings = curves.draw_all(runs, curves.score_kinds(runs))
    assert [drawing.title for drawing in drawings] == ["knn/top1", "probe/loss"]
    labels = [(line.label, line.last) for line in drawings[0].lines]
    assert labels == [("k = 20", "2"), ("k = 100", "1")]


def test_two_runs_are_overlaid_under_their_names(tmp_path):
    runs = [read_run(write_run(tmp_path / name)) for name in ("a", "b")]
    (kind,) = [kind for kind in curves.MONITORS if "RankMe" in kind.title]
    (drawing,) = curves.draw_all(runs, [kind])
    labels = [(line.label, line.run) for line in drawing.lines]
    assert labels == [("a representation", 0), ("b representation", 1)]


@pytest.mark.parametrize("values", [[0, 0], [0, 3]])
def test_skipped_steps_are_drawn_only_if_there_are_any(values):
    lines = [{"step": n, "skipped_steps": value} for n, value in enumerate(values)]
    drawings = curves.draw_all([run_with(lines)], curves.SPEED)
    assert bool(drawings) == any(values)


def test_logarithmic_axis_has_powers_of_ten():
    lines = [{"step": n, "monitor/ema_horizon": 10.0**n} for n in range(1, 6)]
    (drawing,) = curves.draw_all([run_with(lines)], curves.MONITORS)
    assert [text for _, text in drawing.y_ticks] == ["10", "100", "1000", "10k", "100k"]
    heights = xy(drawing.lines[0].segments[0])[:, 1]
    np.testing.assert_allclose(np.diff(heights), heights[1] - heights[0], atol=0.21)


def test_power_law_is_a_straight_line_in_the_drawing_of_spectra():
    values = np.arange(1, 101) ** -1.5
    drawing = curves.draw_spectra([("", 0, 0, values)])
    places = xy(drawing.lines[0].segments[0])
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
def test_short_numbers(value, text):
    assert curves.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(81.5, "81.50"), (1.00004, "1.000"), (3.0, "3"), (2e6, "2M")]
)
def test_readings_show_how_exact_they_are(value, text):
    assert curves.reading(value) == text
