"""Decoding gives the pixels that Pillow gives, and crops are cut from them exactly."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import decoding

from support.datasets import GIF_TWO_FRAMES, bmp, random_image


@pytest.fixture(scope="module")
def odd_jpegs():
    """16 noisy colour JPEGs of odd sizes, with and without chroma subsampling."""
    rng = np.random.default_rng(0)
    return [
        tf.io.encode_jpeg(
            random_image(rng, 17 + 6 * i, 63 - 2 * i), chroma_downsampling=i % 2 == 0
        )
        for i in range(16)
    ]


def random_boxes(rng, height, width):
    """The whole image, its last pixel, and six boxes within it."""
    boxes = [(0, 0, height, width), (height - 1, width - 1, 1, 1)]
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        sides = rng.integers(1, height - top + 1), rng.integers(1, width - left + 1)
        boxes.append((top, left, *sides))
    return boxes


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_crop_equals_the_crop_of_the_whole(odd_jpegs, channels):
    rng = np.random.default_rng(1)
    decode_crops = tf.function(decoding.decode_crops)
    for jpeg in odd_jpegs:
        whole = decoding.decode(jpeg, channels).numpy()
        height, width, _ = whole.shape
        shape = decoding.shape(jpeg, channels).numpy()
        assert shape.tolist() == [height, width, channels]
        for top, left, h, w in random_boxes(rng, height, width):
            box = tf.constant([top, left, h, w], tf.int32)
            crop = decode_crops(jpeg, [box], channels)[0].numpy()
            np.testing.assert_array_equal(
                crop, whole[top : top + h, left : left + w], strict=True
            )


def test_several_crops_equal_the_crops_decoded_alone(odd_jpegs):
    boxes = tf.constant([[0, 1, 5, 4], [7, 3, 9, 30]])
    jpeg = odd_jpegs[0]
    for encoded in (jpeg, tf.io.encode_png(tf.io.decode_jpeg(jpeg))):
        crops = decoding.decode_crops(encoded, [*boxes], 3)
        for crop, box in zip(crops, boxes, strict=True):
            (alone,) = decoding.decode_crops(encoded, [box], 3)
            np.testing.assert_array_equal(crop, alone, strict=True)


def test_a_jpeg_crop_decoded_without_a_margin_would_differ(odd_jpegs, monkeypatch):
    jpeg, box = odd_jpegs[0], tf.constant([5, 5, 9, 9])
    whole = decoding.decode(jpeg, 3).numpy()[5:14, 5:14]
    assert (decoding.decode_crops(jpeg, [box], 3)[0].numpy() == whole).all()
    monkeypatch.setattr(decoding, "_JPEG_MARGIN", 0)
    assert (decoding.decode_crops(jpeg, [box], 3)[0].numpy() != whole).any()


def test_png_and_bmp_give_their_pixels_and_crops_of_them():
    image = random_image(np.random.default_rng(0))
    box = tf.constant([2, 1, 5, 4])
    for encoded in (tf.io.encode_png(image).numpy(), bmp(image)):
        np.testing.assert_array_equal(decoding.decode(encoded, 3), image)
        assert decoding.shape(encoded, 3).numpy().tolist() == [9, 7, 3]
        (crop,) = decoding.decode_crops(encoded, [box], 3)
        np.testing.assert_array_equal(crop, image[2:7, 1:5])


def test_a_gif_gives_its_first_frame():
    pixels = decoding.decode(GIF_TWO_FRAMES, 3).numpy()
    assert pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_transparency_is_dropped_and_grey_is_repeated_for_three_channels():
    rng = np.random.default_rng(0)
    for stored, expected in ((1, [0, 0, 0]), (2, [0, 0, 0]), (4, [0, 1, 2])):
        image = random_image(rng, channels=stored)
        decoded = decoding.decode(tf.io.encode_png(image), 3)
        np.testing.assert_array_equal(decoded, image[..., expected])


def test_colour_is_converted_to_luma_and_grey_is_kept_for_one_channel():
    rng = np.random.default_rng(0)
    grey, colour = random_image(rng, channels=2), random_image(rng, channels=3)
    decoded = decoding.decode(tf.io.encode_png(grey), 1)
    np.testing.assert_array_equal(decoded, grey[..., :1])
    luma = colour @ np.array([0.299, 0.587, 0.114])
    for encoded in (tf.io.encode_png(colour).numpy(), bmp(colour)):
        assert np.abs(decoding.decode(encoded, 1)[..., 0] - luma).max() <= 1


def test_jpegs_decode_to_the_pixels_of_pillow(odd_jpegs):
    for jpeg in odd_jpegs:
        expected = np.asarray(Image.open(io.BytesIO(jpeg.numpy())))
        np.testing.assert_array_equal(decoding.decode(jpeg, 3), expected)


def test_size_of_a_png_is_read_from_its_header():
    png = tf.io.encode_png(np.zeros((4, 700, 1), np.uint8)).numpy()
    assert decoding.png_size(png[:24]).numpy().tolist() == [4, 700]


@pytest.mark.parametrize(("stored", "channels"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_channels_do_not_count_transparency(stored, channels):
    image = np.zeros((2, 2, stored), np.uint8)
    assert decoding.channels_of(tf.io.encode_png(image)) == channels


@pytest.mark.parametrize(
    ("pixels", "ratio"),
    [(1 << 24, 1), ((1 << 24) + 1, 2), (1 << 26, 2), ((1 << 26) + 1, 4)],
)
def test_images_above_16_megapixels_are_halved_or_quartered(pixels, ratio):
    assert int(decoding.ratio_of((1, pixels))) == ratio


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_large_image_is_reduced_by_its_shape_crops_and_pixels_alike(
    kind, monkeypatch
):
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 100)
    encode = tf.io.encode_jpeg if kind == "jpeg" else tf.io.encode_png
    encoded = encode(np.full((15, 14, 3), 80, np.uint8))
    pixels = decoding.decode(encoded, 3)
    assert pixels.shape == (8, 7, 3)
    assert decoding.shape(encoded, 3).numpy().tolist() == [8, 7, 3]
    (crop,) = decoding.decode_crops(encoded, [tf.constant([2, 1, 5, 4])], 3)
    np.testing.assert_array_equal(crop, pixels[2:7, 1:5])


def test_floats_are_bytes_divided_by_255_and_floats_stay():
    images = tf.constant([0, 51, 255], tf.uint8)
    floats = decoding.to_float(images)
    assert floats.dtype == tf.float32
    np.testing.assert_array_equal(floats, np.array([0.0, 0.2, 1.0], np.float32))
    assert decoding.to_float(floats) is floats
