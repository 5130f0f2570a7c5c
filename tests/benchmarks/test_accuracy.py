"""Top-k accuracy in percent, whatever the order of classes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byol_keras.benchmarks.accuracy import top_accuracy

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])


@pytest.mark.parametrize(("top", "percent"), [(1, 25.0), (2, 62.5), (3, 100.0)])
def test_label_counts_among_the_highest_scores(top, percent):
    labels = np.array([1, 1, 0, 1])
    assert top_accuracy(SCORES, labels, top) == percent


@given(scores=st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=4, max_size=4))
def test_ties_count_as_the_mean_over_all_orders_of_classes(scores):
    for label, top in itertools.product(range(4), range(1, 5)):
        hits = [
            label in sorted(order, key=lambda c: -scores[c])[:top]
            for order in itertools.permutations(range(4))
        ]
        found = top_accuracy(np.array([scores]), np.array([label]), top)
        assert found == pytest.approx(100 * np.mean(hits))


def test_row_with_nan_is_wrong():
    scores = np.array([[np.nan, np.nan], [0.9, 0.1], [1.0, np.nan]])
    assert top_accuracy(scores, np.array([0, 0, 0]), 1) == pytest.approx(100 / 3)


def test_scores_within_the_tolerance_are_equal():
    scores, label = np.array([[2.0, 1.9, -1.0]]), np.array([1])
    assert top_accuracy(scores, label, 1) == 0.0
    assert top_accuracy(scores, label, 1, tolerance=0.1) == 50.0
    assert top_accuracy(scores, np.array([2]), 1, tolerance=0.1) == 0.0


def test_infinite_scores_are_compared_without_tolerance():
    scores = np.array([[np.inf, 1.0], [np.inf, np.inf]])
    assert top_accuracy(scores, np.array([0, 0]), 1) == 75.0
