"""Boxes and sizes of annotations, repaired or refused; digests of detection data."""

import numpy as np
import pytest

from byol_keras.benchmarks.detection.examples import (
    Annotated,
    DetectionData,
    FileSize,
    agreed_size,
    clipped_box,
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


@pytest.mark.parametrize("side", [None, 0, "0", "", "wide", -1, float("nan")])
def test_side_that_is_not_known_is_that_of_the_file(side):
    for stated in ((side, 20), (10, side), (side, side)):
        assert agreed_size(stated, FileSize(10, 20)) == (10, 20, 1)


@pytest.mark.parametrize("stated", [(10, 20), ("10", "20.0"), (10.0, 20)])
def test_size_of_the_annotation_may_be_text_or_a_float(stated):
    assert agreed_size(stated, FileSize(10, 20)) == (10, 20, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotated_size_decides_whether_an_image_is_turned(orientation):
    file = FileSize(10, 20, orientation)
    is_turned = orientation >= 5
    upright = (20, 10) if is_turned else (10, 20)
    assert agreed_size(upright, file) == (*upright, orientation)
    assert agreed_size((None, None), file) == (*upright, orientation)
    assert agreed_size((None, upright[1]), file) == (*upright, orientation)
    if is_turned:
        assert agreed_size((10, 20), file) == (10, 20, 1)
    with pytest.raises(ValueError, match=r"of 20 x 11 pixels, the file of 20 x 10"):
        agreed_size((11, 20), file)
    square = FileSize(9, 9, orientation)
    assert agreed_size((9, 9), square) == (9, 9, orientation)


@pytest.mark.parametrize("stated", [(20, 10), (10, 21), ("11", None)])
def test_sizes_that_differ_are_refused_with_both(stated):
    with pytest.raises(ValueError, match=r"annotation is of .* the file of 20 x 10"):
        agreed_size(stated, FileSize(10, 20))


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


def test_examples_rank_in_the_order_of_their_ids():
    def ranked(*ids):
        examples = [Annotated("", 1, 1, i, *object_arrays([], [], []), []) for i in ids]
        return DetectionData("data", (), examples, []).by_id()

    assert ranked(10, 9, 30) == [1, 0, 2]
    assert ranked("000010", 7, "000009") == [1, 2, 0]
