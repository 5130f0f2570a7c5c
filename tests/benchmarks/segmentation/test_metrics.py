"""Segmentation metrics of known masks."""

import math

import numpy as np
import pytest

from byol_keras.benchmarks.segmentation.metrics import (
    Confusion,
    named_scores,
    scores,
)

# Source: mmsegmentation's metrics on these masks, in float64.
MASK = np.array([[0, 0, 1, 1], [0, 1, 1, 255], [2, 2, 1, 0]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 1], [0, 1, 0, 0], [2, 1, 1, 0]], np.uint8)


def confusion(num_classes, *pairs):
    found = Confusion(num_classes)
    for mask, prediction in pairs:
        found.add(mask, prediction)
    return found.counts


def test_scores_of_known_masks():
    found = scores(confusion(3, (MASK, PREDICTION)))
    assert found.iou == pytest.approx((60.0, 400 / 7, 50.0), abs=1e-12)
    assert found.mean_iou == pytest.approx(55.7142857142857, abs=1e-12)
    assert found.pixel_accuracy == pytest.approx(72.7272727272727, abs=1e-12)


def test_counts_are_of_the_true_class_then_the_predicted_one():
    counts = confusion(3, (MASK, PREDICTION))
    assert counts.tolist() == [[3, 1, 0], [1, 4, 0], [0, 1, 1]]


def test_images_add_up_before_the_division():
    rows = [(mask, row) for mask, row in zip(MASK, PREDICTION, strict=True)]
    np.testing.assert_array_equal(confusion(3, *rows), confusion(3, (MASK, PREDICTION)))


def test_class_that_is_neither_present_nor_predicted_is_left_out():
    found = scores(confusion(5, (MASK, PREDICTION)))
    assert found.mean_iou == pytest.approx(55.7142857142857, abs=1e-12)
    assert all(math.isnan(value) for value in found.iou[3:])


def test_class_that_is_only_predicted_counts_as_zero():
    mask, prediction = np.zeros((1, 2), np.uint8), np.array([[0, 1]], np.uint8)
    assert scores(confusion(2, (mask, prediction))).mean_iou == 25.0


def test_ignored_pixels_alone_have_no_score():
    ignored = np.full((2, 2), 255, np.uint8)
    found = scores(confusion(2, (ignored, np.zeros((2, 2), np.uint8))))
    assert math.isnan(found.mean_iou)


def test_names_have_no_blanks_and_absent_classes_no_key():
    mask = np.array([[1]], np.uint8)
    found = scores(confusion(3, (mask, mask)))
    assert named_scores("town", found, ("road", "traffic light", "sky")) == {
        "town/mIoU": 100.0,
        "town/pixel_accuracy": 100.0,
        "town/IoU_traffic_light": 100.0,
    }
