"""Detections are drawn at their boxes, in the color of their class."""

import numpy as np
from PIL import Image

from byol_keras.benchmarks.detection.drawing import draw_detections

BLACK = np.zeros((60, 80, 3), np.uint8)
NAMES = ("aeroplane", "bicycle")


def drawn(tmp_path, detections, image=BLACK, **options):
    path = tmp_path / "pictures" / "1.png"
    draw_detections(image, detections, NAMES, path, **options)
    return np.array(Image.open(path)).astype(int)


def found(boxes, scores, labels, masks=None):
    return np.array(boxes), np.array(scores), np.array(labels), masks


def test_box_is_drawn_on_its_first_and_last_pixels(tmp_path):
    picture = drawn(tmp_path, found([[20, 10, 50, 70]], [0.9], [0]))
    colored = picture.any(axis=-1)
    rows, columns = np.nonzero(colored[35:])
    assert (35 + rows.max(), columns.min(), columns.max()) == (49, 10, 69)
    assert colored[49, 10:70].all()
    assert not colored[40, 11:69].any()


def test_two_classes_have_different_colors(tmp_path):
    boxes = [[20, 5, 50, 35], [20, 45, 50, 75]]
    picture = drawn(tmp_path, found(boxes, [0.9, 0.8], [0, 1]))
    first, second = picture[49, 20], picture[49, 60]
    assert np.abs(first - second).max() > 100


def test_label_of_a_box_at_the_side_is_within_the_image(tmp_path):
    image = np.zeros((60, 200, 3), np.uint8)
    boxes = [[30, 5, 50, 25], [30, 180, 50, 200]]
    middle, side = (
        drawn(tmp_path, found([box], [0.9], [0]), image)[:29].any(axis=-1)
        for box in boxes
    )
    assert side[:, -1].any()
    widths = [label.any(axis=0).sum() for label in (middle, side)]
    assert widths[1] >= widths[0] - 2  # but for the edges of the label


def test_detections_below_the_minimum_score_are_left_out(tmp_path):
    detections = found([[20, 10, 50, 70]], [0.2], [0])
    assert not drawn(tmp_path, detections).any()
    assert drawn(tmp_path, detections, min_score=0.1).any()


def test_mask_tints_only_its_pixels(tmp_path):
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 40:45, 20:30] = True
    boxes = [[20, 10, 50, 70]]
    plain = drawn(tmp_path, found(boxes, [0.9], [0]))
    picture = drawn(tmp_path, found(boxes, [0.9], [0], mask))
    np.testing.assert_array_equal((picture != plain).any(axis=-1), mask[0])


def test_run_lengths_are_drawn_like_masks(tmp_path):
    mask = np.zeros((1, 60, 80), bool)
    mask[0, :, 20:30] = True
    runs = [{"size": [60, 80], "counts": [20 * 60, 10 * 60, 50 * 60]}]
    boxes = [[20, 10, 50, 70]]
    np.testing.assert_array_equal(
        drawn(tmp_path, found(boxes, [0.9], [0], mask)),
        drawn(tmp_path, found(boxes, [0.9], [0], runs)),
    )


def test_float_image_without_detections_is_that_image(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    nothing = found(np.zeros((0, 4)), [], np.zeros(0, int))
    np.testing.assert_array_equal(drawn(tmp_path, nothing, image / 255.0), image)
