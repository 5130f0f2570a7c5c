"""Large images are reduced once, kept, and read as others are."""

import os

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import reduced_images
from byol_keras.data.reduced_images import ReducedImages, reduced

from support.datasets import random_image, write


def pictures(folder, *shapes):
    """PNG files of random pixels: 0.png, 1.png, ..."""
    rng = np.random.default_rng(0)
    for number, shape in enumerate(shapes):
        write(folder / f"{number}.png", tf.io.encode_png(random_image(rng, *shape)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 60, 3), (20, 12, 3)),
        ((12, 90, 1), (12, 90, 1)),
        ((11, 90, 3), (11, 90, 3)),
        ((24, 13, 1), (22, 12, 1)),
    ],
)
def test_short_side_is_at_most_that_given_and_the_aspect_ratio_is_kept(shape, expected):
    assert reduced(np.zeros(shape, np.uint8), 12).shape == expected


def test_pixels_are_means_of_the_pixels_below_them():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    found = reduced(stripes, 8)
    np.testing.assert_allclose(found[:, 1:-1], 100, atol=2)


def test_constant_images_stay_as_they_are():
    for channels in (1, 3):
        image = np.full((50, 70, channels), 137, np.uint8)
        np.testing.assert_array_equal(reduced(image, 20), 137)


def test_folder_has_reduced_images_and_others_as_they_are_stored(tmp_path):
    pictures(tmp_path, (40, 30, 3), (9, 7, 3))
    stored = [e["image"].numpy() for e in data.image_folder(tmp_path).ordered()]
    source = data.image_folder(tmp_path, short_side=10)
    large, small = [e["image"].numpy() for e in source.ordered()]
    assert large.shape == (13, 10, 3)
    np.testing.assert_array_equal(large, reduced(stored[0], 10))
    np.testing.assert_array_equal(small, stored[1])
    for element in source.stream(seed=0).take(2):
        expected = large if element["image"].shape == large.shape else small
        np.testing.assert_array_equal(source.decode(element["image"]), expected)


def test_grey_images_stay_grey(tmp_path):
    pictures(tmp_path, (40, 30, 1))
    (example,) = data.image_folder(tmp_path, short_side=10).ordered()
    assert example["image"].shape == (13, 10, 1)


def test_images_are_kept_and_decoded_once(tmp_path):
    pictures(tmp_path, (40, 30, 3))
    load = ReducedImages(10, lambda contents: contents)
    path = os.fspath(tmp_path / "0.png")
    first, flaw = load(path, 3)
    os.remove(path)
    assert flaw is None
    assert load(path, 3)[0] is first


def test_images_beyond_the_memory_are_decoded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reduced_images, "_MOST_BYTES", 13 * 10 * 3)
    pictures(tmp_path, (40, 30, 3), (40, 30, 3))
    load = ReducedImages(10, lambda contents: contents)
    paths = [os.fspath(tmp_path / f"{number}.png") for number in range(2)]
    found = [load(path, 3)[0] for path in paths]
    again = [load(path, 3)[0] for path in paths]
    assert again[0] is found[0]
    assert again[1] is not found[1]
    np.testing.assert_array_equal(again[1], found[1])


def test_unreadable_images_are_left_out(tmp_path):
    pictures(tmp_path, (40, 30, 3), (40, 30, 3))
    (tmp_path / "1.png").write_bytes(b"no image")
    source = data.image_folder(tmp_path, short_side=10, max_bad_share=0.5)
    assert len(list(source.readable().ordered())) == 1
    (bad,) = source.unreadable()
    assert bad.reason.startswith("no image")


def test_digest_changes_with_the_short_side(tmp_path):
    pictures(tmp_path, (40, 30, 3))
    sizes = ({}, {"short_side": 10}, {"short_side": 11})
    digests = {data.image_folder(tmp_path, **size).digest() for size in sizes}
    assert len(digests) == 3


@pytest.mark.parametrize("value", [0, 7, 12.0, True, "64"])
def test_short_side_must_be_a_number_of_pixels(tmp_path, value):
    pictures(tmp_path, (40, 30, 3))
    with pytest.raises(ValueError, match=r"short_side must be None or an int of at le"):
        data.image_folder(tmp_path, short_side=value)


def test_arrays_are_not_reduced(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((40, 30, 4), np.uint8))
    with pytest.raises(ValueError, match=r"short_side must be None for arrays. Rec"):
        data.image_folder(tmp_path, short_side=10)
