"""Masks in both codes as pixels; invalid masks are refused."""

import numpy as np
import pytest

from byol_keras.benchmarks.detection.masks import (
    bitmap,
    cropped_mask,
    read_segmentation,
)


def test_pixel_is_inside_a_polygon_if_its_center_is():
    polygon = np.array([1.4, 1, 3.6, 1, 3.6, 2.5, 1.4, 2.5])
    expected = np.zeros((4, 5), bool)
    expected[1, 1:4] = True
    np.testing.assert_array_equal(bitmap([polygon], 4, 5), expected)


def test_polygons_of_one_object_are_united():
    square = np.array([0.0, 0, 2, 0, 2, 2, 0, 2])
    np.testing.assert_array_equal(
        bitmap([square, square + 1], 3, 3), [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    )


def test_both_codes_give_the_same_crop():
    polygon = np.array([2.0, 2, 6, 2, 6, 6, 2, 6])
    runs = {"size": [8, 8], "counts": [18, 4, 4, 4, 4, 4, 4, 4, 18]}
    np.testing.assert_array_equal(bitmap([polygon], 8, 8), bitmap(runs, 8, 8))
    box = np.array([0, 2, 4, 6])  # its lower half
    expected = np.repeat([0, 1], 2)[:, None] * np.ones((1, 4))
    for code in ([polygon], runs):
        np.testing.assert_array_equal(cropped_mask(code, box, 4), expected)


def test_model_garden_crops_masks_of_proposals_from_cropped_masks():
    ops = pytest.importorskip("official.vision.ops.spatial_transform_ops")
    polygon = np.array([10.0, 10, 50, 30, 40, 60, 15, 50])
    box, proposal = np.array([[10, 10, 60, 50], [20, 5, 60, 40]], np.float32)
    mask = cropped_mask([polygon], box, 112)
    cut = ops.crop_mask_in_target_box(
        mask[None, None], box[None, None], proposal[None, None], 28, sample_offset=0.5
    )
    direct = cropped_mask([polygon], proposal, 28)
    assert np.mean((cut[0, 0] > 0.5) == direct) > 0.98


def test_polygon_of_two_corners_is_dropped_beside_a_whole_one():
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    (polygon,) = read_segmentation([[0, 0, 2, 2], square], 4, 4)
    assert polygon.tolist() == square


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[0, 0, 2, 2]], "no polygon of three corners"),
        ([[0, 0, 2, 0, 2, float("nan")]], "no polygon of three corners"),
        ("mask", "neither polygons nor run lengths"),
        ({"size": [4, 4], "counts": [3, 4]}, "do not cover the image"),
        ({"size": [4, 5], "counts": [16]}, "do not cover the image"),
        ({"size": [4, 4], "counts": []}, "do not cover the image"),
        ({"size": [4, 4], "counts": [20, -4]}, "do not cover the image"),
        ({"size": [4, 4], "counts": None}, "do not cover the image"),
        ({"size": [4, 4], "counts": "@"}, "do not cover the image"),
        ({"size": [4, 4], "counts": "1"}, "do not cover the image"),
        ({"size": [4, 4], "counts": 16}, "^run lengths that are no numbers"),
        ({"size": [4, 4], "counts": {"a": 1}}, "^run lengths that are no numbers"),
        ([{"size": [4, 4], "counts": [16]}], "^polygons that are not lists of numbers"),
        ([["a", 0, 2, 0, 2, 2]], "^polygons that are not lists of numbers"),
    ],
)
def test_invalid_mask_is_refused(segmentation, problem):
    with pytest.raises(ValueError, match=problem):
        read_segmentation(segmentation, 4, 4)


def test_compressed_run_lengths_are_checked_as_lists_are():
    mask_module = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        pixels = np.asfortranarray(rng.uniform(size=(60, 90)) < share, np.uint8)
        code = mask_module.encode(pixels)
        for counts in (code["counts"], code["counts"].decode()):
            code = {"size": [60, 90], "counts": counts}
            assert read_segmentation(code, 60, 90) is code
            with pytest.raises(ValueError, match="do not cover the image"):
                read_segmentation(code | {"size": [60, 91]}, 60, 91)
