"""The compiled resize computes the same as the reference and keeps known images."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views.crops import RandomResizedCrop
from byol_keras.views.resizing import channels_last, resized_crops

from support.images import both_semantics, noise, varied

# Far below 1/255, the difference of adjacent bytes.
TOLERANCE = 3e-4


@both_semantics
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [9, (30, 13)])
def test_resized_crops_equal_the_crops_of_augment(
    semantics, interpolation, channels, size
):
    layer = RandomResizedCrop(size, (0.05, 1.0), (0.5, 2.0), interpolation, semantics)
    batch = (255 * varied(channels=channels)).astype(np.uint8)
    uniforms = tf.constant(noise(len(batch), layer.draws, seed=2))
    expected = layer.augment(tf.cast(batch, tf.float32) / 255.0, uniforms).numpy()
    boxes = layer.boxes(*batch.shape[1:3], uniforms).numpy()
    planes = np.empty((len(batch), channels, *layer.height_width), np.float32)
    layer.resize_arrays(batch, boxes, planes)
    found = planes.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@both_semantics
@pytest.mark.parametrize("channels", [1, 3])
def test_packed_crops_of_any_size_are_resized_like_others(semantics, channels):
    layer = RandomResizedCrop((5, 4), semantics=semantics)
    rng = np.random.default_rng(0)
    # From fewer bytes than the result has to more, where `pack` resizes at once.
    sizes = [(1, 1), (3, 7), (9, 8), (8, 10), (9, 9), (40, 31)]
    crops = [rng.integers(0, 256, (*s, channels), dtype=np.uint8) for s in sizes]
    packed = [layer.pack(tf.constant(crop)) for crop in crops]
    values = tf.ragged.stack([values for values, _ in packed])
    found_sizes = np.stack([size for _, size in packed])
    np.testing.assert_array_equal(found_sizes, [*sizes[:4], (0, 0), (0, 0)])
    shape = (len(crops), channels, *layer.height_width)
    found, expected = np.empty(shape, np.float32), np.empty(shape, np.float32)
    splits = values.row_splits.numpy()
    layer.resize_packed(values.values.numpy(), splits, found_sizes, found)
    for n, crop in enumerate(crops):
        boxes = np.int32([[0, 0, *crop.shape[:2]]])
        layer.resize_arrays(crop[None], boxes, expected[n : n + 1])
    np.testing.assert_array_equal(found, expected)


def resized(image, box, size, cubic=True, antialias=True):
    """float32 `[C, *size]`: a box of one image, resized."""
    planes = np.empty((1, image.shape[-1], *size), np.float32)
    boxes = np.array([box], np.int32)
    resized_crops(image[None], boxes, cubic, antialias, planes)
    return planes[0]


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_crop_of_its_own_size_has_its_own_pixels(cubic, channels):
    image = (255 * varied(channels=channels)[3]).astype(np.uint8)
    found = resized(image, (3, 5, 7, 9), (7, 9), cubic)
    expected = image[3:10, 5:14].transpose(2, 0, 1) / 255.0
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize("size", [(2, 3), (40, 50)])
def test_a_constant_image_is_constant_at_every_size(cubic, size):
    image = np.full((11, 13, 3), 51, np.uint8)
    found = resized(image, (0, 0, 11, 13), size, cubic)
    np.testing.assert_allclose(found, 0.2, atol=1e-6)


def test_antialiasing_averages_all_pixels_and_its_absence_skips_some():
    image = np.zeros((1, 8, 1), np.uint8)
    image[0, 0] = 255  # far from the two centres of the reduced image
    smooth = resized(image, (0, 0, 1, 8), (1, 2), cubic=False)
    sharp = resized(image, (0, 0, 1, 8), (1, 2), cubic=False, antialias=False)
    assert smooth[0, 0, 0] > 0.05
    assert sharp.max() == 0.0


def test_channels_last_clips_and_moves_the_axis():
    for channels in (2, 3):
        planes = np.linspace(-1, 2, channels * 20, dtype=np.float32)
        planes = planes.reshape(1, channels, 4, 5)
        images = np.empty((1, 4, 5, channels), np.float32)
        channels_last(planes, images)
        expected = planes.transpose(0, 2, 3, 1).clip(0.0, 1.0)
        np.testing.assert_array_equal(images, expected)
