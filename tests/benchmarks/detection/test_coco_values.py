"""Ids, boxes and flags are read in all the forms that tools write."""

import math

import pytest

from byol_keras.benchmarks.detection.coco_values import as_box, as_flag, as_id


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        (7.0, 7),
        ("-1", -1),
        (2**70, 2**70),
        ("007", "007"),
        ("7.0", "7.0"),
        (7.5, 7.5),
        ("a", "a"),
        (math.inf, math.inf),
        (None, None),
    ],
)
def test_id_of_an_integer_is_that_integer(value, expected):
    assert as_id(value) == expected
    assert isinstance(as_id(value), type(expected))


@pytest.mark.parametrize("value", [[1], {}, {"id": 1}])
def test_id_that_is_neither_number_nor_text_is_refused(value):
    with pytest.raises(ValueError, match="neither number nor text"):
        as_id(value)


@pytest.mark.parametrize("bbox", [[1, 2, 3, 4], ["1", "2.0", "3", "4"]])
def test_box_is_given_by_its_edges(bbox):
    assert as_box({"bbox": bbox}) == (2, 1, 6, 4)


@pytest.mark.parametrize(
    "bbox", [None, "1234", [1, 2, 3], ["a", 1, 1, 1], [[1], 1, 1, 1], [10**400] * 4]
)
def test_box_of_other_values_is_refused(bbox):
    with pytest.raises(ValueError, match=r"^a bbox that is not four numbers"):
        as_box({"bbox": bbox})


def test_box_that_is_missing_is_refused():
    with pytest.raises(ValueError, match="not four numbers: None"):
        as_box({})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, False) for value in (0, 0.0, "0", None, False, "false", "")),
        *((value, True) for value in (1, 1.0, "1", True, "True")),
    ],
)
def test_flag_may_be_a_number_or_text(value, expected):
    assert as_flag(value) is expected
