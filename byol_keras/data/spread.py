"""A sample of many items at equal distances."""

from collections.abc import Sequence

import numpy as np


def spread_places(count: int, most: int) -> np.ndarray:
    """int64, at most `most` of the places 0..count - 1, the first and last included."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def spread(items: Sequence, most: int) -> list:
    """The items at `spread_places`."""
    return [items[place] for place in spread_places(len(items), most)]
