"""Images that two datasets share are counted by their contents."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import equal_files
from byol_keras.data.equal_files import shared_images

from support.datasets import write


def folder(path, *values):
    """A folder of one image per value, in the order of the values."""
    for place, value in enumerate(values):
        png = tf.io.encode_png(np.full((2, 2, 3), value, np.uint8), compression=0)
        write(path / "a" / f"{path.name}{place:03}.png", png)
    return data.image_folder(path)


@pytest.mark.parametrize(
    ("values", "count"),
    [((7, 8, 9), 0), ((1, 8, 3), 2), ((1, 1, 1), 3), ((3, 2, 1), 3)],
)
def test_equal_contents_are_counted_whatever_the_names(tmp_path, values, count):
    train = folder(tmp_path / "train", 1, 2, 3)
    test = folder(tmp_path / "test", *values)
    shared = shared_images(test, train)
    assert shared[:2] == (count, 3)
    assert (shared.example is None) == (count == 0)


def test_a_folder_shares_all_files_with_itself_and_none_with_its_other_part(tmp_path):
    whole = folder(tmp_path / "all", *range(6))
    assert shared_images(whole, whole)[:2] == (6, 6)
    first, rest = whole.subset([0, 1], "first"), whole.subset([2, 3, 4, 5], "rest")
    assert shared_images(first, rest)[:2] == (0, 2)
    assert shared_images(first, whole)[:2] == (2, 2)


def test_files_that_cannot_be_read_and_empty_ones_are_not_equal(tmp_path):
    train, test = folder(tmp_path / "train", 1, 2), folder(tmp_path / "test", 1, 2)
    for name in ("train", "test"):
        write(tmp_path / name / "a" / f"{name}000.png", b"")
        (tmp_path / name / "a" / f"{name}001.png").unlink()
    assert shared_images(test, train).count == 0


def test_of_large_datasets_a_part_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(equal_files, "_MOST_COMPARED", 4)
    monkeypatch.setattr(equal_files, "_MOST_SIZES", 5)
    train, test = folder(tmp_path / "train", *range(9)), folder(tmp_path / "test", 1, 2)
    assert shared_images(test, train)[:2] == (0, 2)  # other names
    assert shared_images(train, test)[:2] == (0, 4)  # the values 0, 3, 5 and 8
    assert shared_images(train, train)[:2] == (4, 4)


def test_equal_images_in_memory_are_counted_whatever_their_order(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 4, 3), np.uint8)
    train = data.arrays(images[:12])
    test = data.arrays(images[[19, 3, 11, 18, 3]])
    assert shared_images(test, train) == (3, 5, f"number 1 of {test.name}")
    assert shared_images(train, train)[:2] == (12, 12)
    assert shared_images(train.subset([0, 1], "part"), test) == (0, 2, None)
    monkeypatch.setattr(equal_files, "_MOST_COMPARED", 3)
    assert shared_images(test, train)[:2] == (2, 3)  # numbers 0, 2 and 4 of five
    monkeypatch.setattr(equal_files, "_MOST_SIZES", 11)
    assert shared_images(test, train) == (0, 0, None)


def test_encoded_images_in_memory_are_compared_as_they_are():
    train, test = (data.fashion_mnist_small(split) for split in ("train", "test"))
    assert shared_images(test, train).count == 0
    part = train.subset(range(0, 10_000, 50), "part")
    assert shared_images(part, train)[:2] == (200, 200)


def test_images_of_other_shapes_or_in_files_are_not_equal(tmp_path):
    pixels = np.zeros((2, 2, 8, 3), np.uint8)
    arrays = data.arrays(pixels)
    assert shared_images(data.arrays(pixels.reshape(2, 4, 4, 3)), arrays).count == 0
    assert shared_images(arrays, folder(tmp_path / "a", 0)) == (0, 0, None)
