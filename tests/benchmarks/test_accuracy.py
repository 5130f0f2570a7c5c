"""Top-k accuracy in percent, with ties decided by class number."""

import numpy as np
import pytest

from byol_keras.benchmarks.accuracy import top_accuracy

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])


@pytest.mark.parametrize(("top", "percent"), [(1, 25.0), (2, 75.0), (3, 100.0)])
def test_label_counts_among_the_highest_scores(top, percent):
    labels = np.array([1, 1, 0, 1])
    assert top_accuracy(SCORES, labels, top) == percent


def test_lower_class_of_equal_scores_is_first():
    tied = np.zeros((2, 3))
    assert top_accuracy(tied, np.array([0, 2]), 1) == 50.0
    assert top_accuracy(tied, np.array([1, 2]), 2) == 50.0


def test_row_with_nan_is_wrong():
    scores = np.array([[np.nan, np.nan], [0.9, 0.1], [1.0, np.nan]])
    assert top_accuracy(scores, np.array([0, 0, 0]), 1) == pytest.approx(100 / 3)
