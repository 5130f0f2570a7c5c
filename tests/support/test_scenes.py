"""Generated scenes: boxes, masks, classes and borders agree with each other."""

import numpy as np
import pytest

from support.scenes import IGNORED, make_scenes, run_lengths

SCENES = make_scenes(20, seed=3)


def test_boxes_are_tight_on_the_masks():
    for scene in SCENES:
        for (ymin, xmin, ymax, xmax), mask in zip(
            scene.boxes.astype(int), scene.masks, strict=True
        ):
            inside = mask[ymin:ymax, xmin:xmax]
            assert inside.sum() == mask.sum()
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()


def test_objects_are_large_and_do_not_overlap():
    for scene in SCENES:
        assert scene.masks.sum(axis=0).max() == 1
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert sides.min() >= 20


def test_semantic_labels_are_those_of_the_masks_except_at_borders():
    for scene in SCENES:
        expected = np.zeros_like(scene.semantic)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            expected[mask] = label + 1
        known = scene.semantic != IGNORED
        np.testing.assert_array_equal(scene.semantic[known], expected[known])
        assert 0.01 < 1 - known.mean() < 0.3


@pytest.mark.parametrize("number", range(3))
def test_a_scene_depends_on_seed_and_number_alone(number):
    again = make_scenes(number + 1, seed=3)[number]
    np.testing.assert_array_equal(again.image, SCENES[number].image)
    other = make_scenes(number + 1, seed=4)[number]
    assert (other.image != again.image).any()


def test_all_classes_appear_and_some_objects_are_difficult():
    labels = np.concatenate([scene.labels for scene in SCENES])
    difficult = np.concatenate([scene.difficult for scene in SCENES])
    assert set(labels) == {0, 1, 2}
    assert 0 < difficult.mean() < 0.3


def test_run_lengths_count_columns_beginning_with_zeros():
    mask = np.array([[1, 0], [1, 1]], bool)
    assert run_lengths(mask) == {"size": [2, 2], "counts": [0, 2, 1, 1]}
    assert run_lengths(np.eye(2, dtype=bool))["counts"] == [0, 1, 2, 1]
    assert run_lengths(np.zeros((2, 2), bool))["counts"] == [4]
