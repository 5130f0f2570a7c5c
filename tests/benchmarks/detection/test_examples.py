"""Boxes and sizes of annotations, repaired or refused; digests of detection data."""

import numpy as np
import pytest

from byol_keras.benchmarks.detection.examples import (
    Annotated,
    DetectionData,
    clipped_box,
    image_side,
    object_arrays,
)


def test_box_within_the_image_is_not_changed():
    bad = []
    assert clipped_box((0, 2, 10, 20), 10, 20, "a box", bad) == (0, 2, 10, 20)
    assert bad == []


def test_box_beyond_the_image_is_clipped_and_listed():
    bad = []
    assert clipped_box((-3, 2, 10, 25), 10, 20, "a box", bad) == [0, 2, 10, 20]
    assert bad == ["a box: clipped, a box beyond the image"]


def test_rounding_of_a_box_is_clipped_without_a_note():
    bad = []
    assert clipped_box((0, 0, 10.4, 20), 10, 20, "a box", bad) == [0, 0, 10, 20]
    assert bad == []


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0, 0, float("nan"), 5), "not finite"),
        ((4, 0, 4, 5), "without area"),
        ((12, 0, 15, 5), "without area"),
    ],
)
def test_box_without_area_or_numbers_is_refused(box, problem):
    with pytest.raises(ValueError, match=problem):
        clipped_box(box, 10, 20, "a box", [])


@pytest.mark.parametrize("number", [0, -1, 0.5, float("inf"), float("nan")])
def test_image_without_a_side_is_refused(number):
    with pytest.raises(ValueError, match="side"):
        image_side(number)


def test_side_of_an_image_is_an_int():
    assert image_side(12.0) == 12


def test_arrays_of_no_object_have_their_shapes_and_types():
    boxes, labels, difficult = object_arrays([], [], [])
    assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)
    assert (labels.shape, labels.dtype) == ((0,), np.int64)
    assert (difficult.shape, difficult.dtype) == ((0,), bool)


def data_of(path, **changes):
    arrays = object_arrays([(0, 0, 4, 4)], [1], [False])
    example = Annotated(str(path), 8, 8, "1", *arrays, None)
    return DetectionData("data", ("a", "b"), [example._replace(**changes)], [])


def test_digest_changes_with_each_field_of_an_example(tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"an image")
    first = data_of(path).digest()
    assert data_of(path).digest() == first
    changes = (
        {"height": 9},
        {"image_id": "2"},
        {"boxes": np.float32([[0, 0, 4, 5]])},
        {"labels": np.array([0])},
        {"difficult": np.array([True])},
        {"masks": [[np.zeros(6)]]},
    )
    digests = {data_of(path, **change).digest() for change in changes}
    assert len(digests | {first}) == len(changes) + 1
