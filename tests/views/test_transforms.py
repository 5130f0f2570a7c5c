"""Test-time crops have the sizes, places and pixels of the references."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.views.transforms import (
    deepmind_center_crop,
    deepmind_crop_box,
    resize_center_crop,
    resize_square,
)

from support.datasets import random_image


def some_image(height=12, width=10):
    return random_image(np.random.default_rng(0), height, width)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (375, 500, (328, 24, 86)),
        (333, 500, (291, 21, 105)),
        (256, 256, (224, 16, 16)),
        (224, 300, (196, 14, 52)),
    ],
)
def test_deepmind_crop_has_the_reference_side_top_and_left(height, width, expected):
    box = deepmind_crop_box(tf.constant(height), tf.constant(width))
    assert tuple(int(number) for number in box) == expected


def test_deepmind_crop_of_256_pixels_is_the_image_without_its_border():
    image = some_image(256, 256)
    crop = deepmind_center_crop(image)
    np.testing.assert_allclose(crop, image[16:240, 16:240] / 255.0, atol=1e-6)


def test_deepmind_crop_is_resized_to_the_size():
    crop = deepmind_center_crop(np.full((37, 51, 1), 51, np.uint8), size=24)
    np.testing.assert_allclose(crop, np.full((24, 24, 1), 0.2), atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [
        (256, 300, 16, 38),
        (300, 256, 38, 16),
        (256, 301, 16, 38),  # 38.5 rounds to even
        (256, 303, 16, 40),  # and so does 39.5
    ],
)
def test_centre_crop_of_an_image_with_the_right_short_side_is_a_slice(
    height, width, top, left
):
    image = some_image(height, width)
    expected = image[top : top + 224, left : left + 224] / 255.0
    np.testing.assert_allclose(resize_center_crop(image), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(37, 51, 3), (51, 37, 1), (5, 91, 3), (3, 3, 4)])
def test_centre_crop_of_odd_sizes_has_the_size_and_keeps_a_constant(shape):
    crop = resize_center_crop(np.full(shape, 102, np.uint8), size=15, resize=17)
    np.testing.assert_allclose(crop, np.full((15, 15, shape[-1]), 0.4), atol=1e-6)


def test_centre_crop_equals_that_of_pillow_up_to_rounding():
    image = some_image(75, 100)
    # Short side 32, long side int(32 * 100 / 75) = 42; margins 2 and 7.
    resized = Image.fromarray(image).resize((42, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[2:30, 7:35] / 255.0
    crop = resize_center_crop(image, size=28, resize=32)
    np.testing.assert_allclose(crop, expected, atol=1.01 / 255)


def test_centre_crop_larger_than_the_resized_image_is_refused():
    with pytest.raises(ValueError, match=r"within 1 and resize=200\. Received: 224"):
        resize_center_crop(some_image(), size=224, resize=200)


@pytest.mark.parametrize(("height", "width"), [(40, 61), (53, 30), (20, 20)])
def test_square_equals_two_resizes_by_pillow(height, width):
    image = some_image(height, width)
    found = resize_square(image, size=28, resize=32)
    short = min(height, width)
    between = (int(32 * width / short), int(32 * height / short))
    expected = Image.fromarray(image).resize(between, Image.BILINEAR)
    expected = np.asarray(expected.resize((28, 28), Image.BILINEAR)) / 255.0
    # Pillow rounds to uint8 after each pass over rows or columns.
    np.testing.assert_allclose(found, expected, atol=2.5 / 255)


def test_square_contains_all_of_a_wide_image():
    image = np.zeros((32, 96, 1), np.uint8)
    image[:, 48:] = 255
    columns = np.mean(resize_square(image, size=24, resize=32), axis=(0, 2))
    assert (columns[:11] < 0.01).all()
    assert (columns[13:] > 0.99).all()


@pytest.mark.parametrize("wrong", [{"size": 0}, {"resize": -1}])
def test_sides_of_the_square_must_be_positive(wrong):
    with pytest.raises(ValueError, match=r"must be positive\. Received: "):
        resize_square(np.zeros((4, 4, 3), np.uint8), **wrong)
