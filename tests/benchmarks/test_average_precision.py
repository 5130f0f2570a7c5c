"""Average precision by the three rules, against reference values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byol_keras.benchmarks.average_precision import (
    average_precision,
    average_precision_of_hits,
)

EIGHT = [1, 0, 1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("hits", "num_positives", "rule", "expected"),
    [
        (EIGHT, 5, "area", 0.614285714285714),
        (EIGHT, 5, "11_points", 0.633116883116883),
        (EIGHT, 5, "11_points_exact", 0.649350649350649),
        ([1, 0, 1, 1], 10, "area", 0.25),
        ([1, 0, 1, 1], 10, "11_points", 0.25),
        ([1, 0, 1, 1], 10, "11_points_exact", 0.318181818181818),
        (EIGHT, 4, "area", 0.767857142857143),
        (EIGHT, 4, "11_points", 0.769480519480519),
    ],
)
def test_precision_of_hits_equals_the_reference(hits, num_positives, rule, expected):
    found = average_precision_of_hits(np.array(hits), num_positives, rule)
    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("area", 0.767857142857143), ("11_points", 0.769480519480519)],
)
def test_precision_of_scores_does_not_depend_on_their_order(rule, expected):
    order = np.random.default_rng(0).permutation(8)
    scores, is_positive = np.arange(8, 0, -1.0)[order], np.array(EIGHT)[order]
    found = average_precision(scores, is_positive, rule)
    assert found == pytest.approx(expected, abs=1e-14)


RULES = ("area", "11_points", "11_points_exact")


@pytest.mark.parametrize("rule", RULES)
def test_precision_is_1_if_all_positives_come_first(rule):
    assert average_precision(np.array([3.0, 2, 1]), [True, True, False], rule) == 1.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("hits", [[], [0, 0]])
def test_precision_is_0_if_nothing_is_found(rule, hits):
    assert average_precision_of_hits(np.array(hits), 3, rule) == 0.0


def test_area_equals_that_of_the_envelope_summed_step_by_step():
    rng = np.random.default_rng(1)
    for _ in range(50):
        hits = rng.random(12) < 0.4
        positives = int(hits.sum()) + int(rng.integers(1, 4))
        recall = np.cumsum(hits) / positives
        precision = np.cumsum(hits) / np.arange(1, 13)
        area, reached = 0.0, 0.0
        for r in recall:
            area += (r - reached) * max(precision[recall >= r])
            reached = r
        assert average_precision_of_hits(hits, positives) == pytest.approx(area)


@pytest.mark.parametrize("rule", RULES)
def test_equal_scores_give_the_share_of_positives_in_any_order(rule):
    for is_positive in ([1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]):
        assert average_precision(np.ones(4), is_positive, rule) == 0.25


def test_precision_of_tied_scores_is_counted_after_the_last_of_them():
    # Thresholds 3, 2 and 1: precisions 1/2, 3/4 and 4/6 at recalls 1/4, 3/4 and 1.
    scores, is_positive = [3, 3, 2, 2, 1, 1], [1, 0, 1, 1, 0, 1]
    expected = (3 * 3 / 4 + 4 / 6) / 4
    assert average_precision(np.array(scores), is_positive) == pytest.approx(expected)


@given(
    examples=st.lists(
        st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12
    ),
    order=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_precision_does_not_depend_on_the_order_of_ties(examples, order):
    examples.append((2, True))
    shuffled = order.sample(examples, len(examples))
    for rule in RULES:
        forth, back = (
            average_precision(*map(np.array, zip(*listed, strict=True)), rule)
            for listed in (examples, shuffled)
        )
        assert forth == pytest.approx(back, abs=1e-12)


def test_precision_of_ties_is_the_area_below_the_envelope_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    for _ in range(50):
        scores, hits = rng.integers(0, 5, 20).astype(float), rng.random(20) < 0.4
        hits[0] = True
        precision, recall, _ = metrics.precision_recall_curve(hits, scores)
        # From high recall to low: the best precision at this recall or beyond.
        envelope = np.maximum.accumulate(precision)
        expected = -np.sum(np.diff(recall) * envelope[:-1])
        assert average_precision(scores, hits) == pytest.approx(expected)


def test_nan_among_scores_is_one_line():
    with pytest.raises(ValueError, match=r"scores must be numbers\. Received: 1 NaN"):
        average_precision(np.array([1.0, np.nan]), [True, False])


@pytest.mark.parametrize(("hits", "num_positives"), [([0, 0], 0), ([1, 1, 0], 1)])
def test_too_few_positives_are_one_line(hits, num_positives):
    with pytest.raises(ValueError, match=r"num_positives must be \d or more\. Rec"):
        average_precision_of_hits(np.array(hits), num_positives)


def test_unknown_rule_is_one_line():
    with pytest.raises(ValueError, match=r"rule must be one of .*Received: '101'"):
        average_precision(np.ones(1), [True], "101")
