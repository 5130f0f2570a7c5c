"""Samples of many items at equal distances."""

import pytest

from byol_keras.data.spread import spread, spread_places


@pytest.mark.parametrize(
    "count, most, expected",
    [
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (3, 16, [0, 1, 2]),
        (5, 1, [0]),
        (0, 8, []),
    ],
)
def test_places_are_at_equal_distances(count, most, expected):
    assert spread_places(count, most).tolist() == expected


def test_items_are_those_at_the_places():
    assert spread("abcdefghi", 3) == ["a", "e", "i"]
