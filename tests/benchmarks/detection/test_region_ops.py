"""Anchors, proposals, samples, losses and detections with known answers."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks.detection.region_ops import Regions, l1_loss

from support.detectors import (
    C4_ANCHORS,
    FPN_ANCHORS,
    model_garden_or_skip,
    small_regions,
)


def test_anchors_are_at_the_centers_of_cells():
    anchors = small_regions({4: (16, 32)}).anchors((32, 48))["4"]
    assert anchors.shape == (2, 3, 4 * 6)
    square = anchors.reshape(2, 3, 2, 3, 4)[:, :, :, 1]  # size, then aspect ratio
    np.testing.assert_allclose(square[0, 0], [[0, 0, 16, 16], [-8, -8, 24, 24]])
    np.testing.assert_allclose(square[1, 2, 0], [16, 32, 32, 48])
    wide = anchors.reshape(2, 3, 2, 3, 4)[0, 0, 0, 2]
    assert (wide[3] - wide[1]) / (wide[2] - wide[0]) == pytest.approx(2.0)


def test_canvas_that_the_stride_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by the stride 64"):
        small_regions(FPN_ANCHORS).anchors((100, 128))


def test_published_anchors_have_the_published_sides():
    model_garden_or_skip()
    found = Regions({4: (32, 64, 128, 256, 512)}).anchors((64, 64))["4"]
    corners = found.reshape(-1, 15, 4)[0]
    sides = np.sqrt(np.prod(corners[:, 2:] - corners[:, :2], axis=1))
    np.testing.assert_allclose(sides, np.repeat([32, 64, 128, 256, 512], 3), rtol=1e-5)


def test_anchors_beyond_the_image_are_never_sampled():
    engine = small_regions({4: (16,)})
    anchors = engine.anchors((64, 64))
    boxes, classes = tf.constant([[0.0, 0, 16, 16], [-1] * 4]), tf.constant([1, -1])
    shape, key = tf.constant([32.0, 32.0]), tf.constant([1, 2], tf.int64)
    scores, _ = engine._rpn_targets(anchors, boxes, classes, shape, key)
    outside = np.ones((4, 4), bool)
    outside[:2, :2] = False
    assert (scores["4"].numpy()[outside] == -1).all()
    assert scores["4"].numpy()[0, 0, 1] == 1  # the square one, on the object


def samples_of(rois, boxes, classes, keys):
    engine = small_regions(C4_ANCHORS)
    sampled = engine.sample(
        *(tf.constant(x, tf.float32) for x in (rois, boxes)),
        tf.constant(classes),
        tf.constant(keys, tf.int64),
    )
    return {name: value.numpy() for name, value in sampled.items()}


def test_proposals_are_sampled_with_the_objects_they_match():
    on_object, beside = [10, 10, 30, 30], [40, 40, 60, 60]
    sampled = samples_of(
        [[on_object] * 10 + [beside] * 10],
        [[[11, 10, 31, 30], [-1] * 4]],
        [[3, -1]],
        [[0, 5]],
    )
    # A quarter of eight, of the ten proposals and the object itself.
    assert sorted(sampled["classes"][0]) == [0] * 6 + [3] * 2
    positive = sampled["classes"][0] == 3
    assert (sampled["boxes"][0][positive] == [11, 10, 31, 30]).all()
    assert (sampled["indices"][0][positive] == 0).all()
    assert (sampled["rois"][0][~positive] == beside).all()
    assert (sampled["boxes"][0][~positive] == 0).all()
    assert (sampled["indices"][0][~positive] == -1).all()


def test_too_few_proposals_are_filled_without_more_objects():
    on_object, nothing = [10, 10, 30, 30], [-1] * 4
    sampled = samples_of(
        [[on_object] * 4 + [nothing] * 9], [[on_object]], [[3]], [[0, 5]]
    )
    assert sorted(sampled["classes"][0]) == [0] * 6 + [3] * 2


def test_sampled_proposals_depend_only_on_the_key_of_their_image():
    rois = np.random.default_rng(0).uniform(0, 50, (1, 40, 4))
    rois[..., 2:] = rois[..., :2] + 10
    boxes, classes = [[[0, 0, 9, 9]]], [[1]]
    alone = samples_of(rois, boxes, classes, [[3, 4]])["rois"][0]
    pair = samples_of(
        np.repeat(rois, 2, axis=0), boxes * 2, classes * 2, [[3, 5], [3, 4]]
    )["rois"]
    np.testing.assert_array_equal(pair[1], alone)
    assert (pair[0] != alone).any()


def test_l1_loss_ignores_entries_that_do_not_count():
    predicted, targets = tf.constant([1.0, 2.0, 3.0]), tf.constant([0.0, 4.0, np.inf])
    assert float(l1_loss(predicted, targets, [True, True, False])) == 3.0


def test_losses_of_undecided_and_exact_boxes_are_known():
    boxes = tf.constant([[[0.0, 0, 10, 20], [5, 5, 25, 15]]])
    samples = {"rois": boxes, "boxes": boxes, "classes": tf.constant([[2, 1]])}
    losses = small_regions(C4_ANCHORS).box_losses(
        tf.zeros([1, 2, 4]), tf.zeros([1, 2, 16]), samples
    )
    assert float(losses["box_class"]) == pytest.approx(np.log(4))
    assert float(losses["box"]) == pytest.approx(0.0, abs=1e-5)


def test_box_loss_is_the_sum_over_objects_per_sampled_proposal():
    samples = {
        "rois": tf.constant([[[0.0, 0, 10, 10], [0, 0, 10, 10]]]),
        # One pixel lower: a tenth of the height, and targets are times ten.
        "boxes": tf.constant([[[1.0, 0, 11, 10], [0, 0, 0, 0]]]),
        "classes": tf.constant([[1, 0]]),
    }
    losses = small_regions(C4_ANCHORS).box_losses(
        tf.zeros([1, 2, 2]), tf.zeros([1, 2, 8]), samples
    )
    assert float(losses["box"]) == pytest.approx(1.0 / 2, rel=1e-5)


def test_aligned_region_of_a_constant_map_is_that_constant():
    maps = {"4": tf.fill([1, 4, 4, 2], 3.0)}
    cells = small_regions(C4_ANCHORS).align(maps, tf.constant([[[8.0, 8, 40, 40]]]), 7)
    np.testing.assert_allclose(cells, np.full((1, 7, 7, 2), 3.0), rtol=1e-6)


def test_confident_box_is_detected_at_its_offset_position():
    rois = tf.constant([[[10.0, 10, 30, 30], [0, 0, 5, 5]]])
    logits = tf.constant([[[0.0, 0, 20], [20, 0, 0]]])  # the second is background
    deltas = np.zeros((1, 2, 3, 4), np.float32)
    deltas[0, 0, 2] = [5, 0, 0, 0]  # half a height lower
    engine = small_regions(C4_ANCHORS)
    shape = tf.constant([[64.0, 64]])
    found = engine.detect(logits, deltas.reshape(1, 2, 12), rois, shape)
    assert int(found["count"][0]) == 1
    assert int(found["classes"][0, 0]) == 2
    np.testing.assert_allclose(found["boxes"][0, 0], [20, 10, 40, 30], rtol=1e-5)


def test_missing_extra_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "official.vision.losses", None)
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[dense\]"'):
        Regions(C4_ANCHORS)
