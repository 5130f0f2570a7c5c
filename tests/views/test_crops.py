"""Crops equal a slice and a resize; their boxes follow the stated distributions."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views.crops import RandomCrop, RandomResizedCrop

from support.images import ALMOST_ONE, augmented, both_semantics, noise

# RandomResizedCrop


def slice_and_resize(layer, images, uniforms):
    boxes = layer.boxes(*images.shape[1:3], uniforms).numpy()
    crops = [
        image[top : top + height, left : left + width]
        for image, (top, left, height, width) in zip(images, boxes, strict=True)
    ]
    return np.stack([layer.resize(tf.constant(crop)) for crop in crops])


@pytest.mark.parametrize("size", [(9, 7), (64, 80)], ids=["down", "up"])
@pytest.mark.parametrize(
    ("semantics", "interpolation", "tolerance"),
    [
        ("deepmind", "bicubic", 2e-3),  # TensorFlow reads the kernel from a table
        ("deepmind", "bilinear", 1e-5),
        ("torchvision", "bicubic", 1e-5),
        ("torchvision", "bilinear", 1e-5),
    ],
)
def test_batched_crop_equals_slice_and_tf_resize(
    size, semantics, interpolation, tolerance
):
    layer = RandomResizedCrop(size, interpolation=interpolation, semantics=semantics)
    images, uniforms = noise(12, 40, 50, 3), noise(12, layer.draws, seed=1)
    np.testing.assert_allclose(
        layer.augment(images, uniforms),
        slice_and_resize(layer, images, uniforms),
        atol=tolerance,
    )


@both_semantics
def test_crop_of_a_constant_image_is_constant(semantics):
    layer = RandomResizedCrop(5, semantics=semantics)
    images = np.full((20, 13, 31, 2), 0.37, np.float32)
    result = layer.augment(images, noise(20, layer.draws))
    np.testing.assert_allclose(result, np.full((20, 5, 5, 2), 0.37), atol=1e-6)


def test_resize_to_the_size_of_the_crop_changes_nothing():
    crop = noise(6, 9, 3)
    np.testing.assert_array_equal(RandomResizedCrop((6, 9)).resize(crop), crop)


@both_semantics
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (3, 2), (37, 500)])
def test_boxes_are_inside_the_image(semantics, size):
    layer = RandomResizedCrop(4, semantics=semantics)
    extremes = itertools.islice(
        itertools.product((0.0, ALMOST_ONE), repeat=layer.draws), 0, 4096
    )
    uniforms = np.concatenate(
        [noise(2000, layer.draws), np.array(list(extremes), np.float32)]
    )
    top, left, height, width = layer.boxes(*size, uniforms).numpy().T
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= size[0]
    assert (left + width).max() <= size[1]


@both_semantics
def test_boxes_reach_both_borders(semantics):
    layer = RandomResizedCrop(4, area=(0.25, 0.25), semantics=semantics)
    uniforms = np.full((2, layer.draws), 0.5, np.float32)
    uniforms[:, -2:] = [[0.0, ALMOST_ONE], [ALMOST_ONE, 0.0]]
    boxes = layer.boxes(100, 100, uniforms).numpy()
    np.testing.assert_array_equal(boxes, [[0, 50, 50, 50], [50, 0, 50, 50]])


def test_deepmind_box_of_known_draws():
    # Area 0.54 of 100 x 200 and ratio 1: a side of sqrt(10800) = 103.9, clipped to 100.
    layer = RandomResizedCrop(4)
    boxes = layer.boxes([100], [200], np.array([[0.5, 0.5, 0.9, 0.5]], np.float32))
    np.testing.assert_array_equal(boxes, [[0, 48, 100, 104]])


def test_torchvision_uses_the_first_box_that_fits():
    layer = RandomResizedCrop(4, semantics="torchvision")
    uniforms = np.full((1, layer.draws), 0.99, np.float32)  # too wide for 100 x 100
    uniforms[0, 3], uniforms[0, 13] = 0.17 / 0.92, 0.5  # area 0.25, ratio 1
    uniforms[0, 5], uniforms[0, 15] = 0.0, 0.5
    uniforms[0, -2:] = 0.0, 0.5
    np.testing.assert_array_equal(layer.boxes(100, 100, uniforms), [[0, 25, 50, 50]])


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((100, 1000), (0, 433, 100, 133)),
        ((1000, 100), (433, 0, 133, 100)),
        ((100, 100), (0, 0, 100, 100)),
        ((1, 1000), (0, 499, 1, 1)),
    ],
)
def test_torchvision_falls_back_to_the_centre(size, box):
    layer = RandomResizedCrop(4, area=(1.0, 1.0), semantics="torchvision")
    uniforms = np.full((1, layer.draws), 0.999, np.float32)
    np.testing.assert_array_equal(layer.boxes(*size, uniforms), [box])


@both_semantics
def test_area_and_aspect_ratio_follow_their_distributions(semantics):
    # Boxes of at most half of a square always fit, so that nothing is clipped.
    layer = RandomResizedCrop(4, area=(0.08, 0.5), semantics=semantics)
    boxes = layer.boxes(4000, 4000, noise(20_000, layer.draws)).numpy()
    area = boxes[:, 2] * boxes[:, 3] / 4000**2
    log_ratio = np.log(boxes[:, 3] / boxes[:, 2])
    assert area.min() > 0.0799
    assert area.max() < 0.5005
    assert abs(area.mean() - 0.29) < 0.004
    assert abs(area.std() - 0.42 / math.sqrt(12)) < 0.003
    assert abs(log_ratio).max() < math.log(4 / 3) + 1e-3
    assert abs(log_ratio.mean()) < 0.005
    assert abs(log_ratio.std() - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.003


def test_deepmind_area_is_near_uniform_from_008_to_1():
    # Clipping to the image takes a little off the largest boxes.
    boxes = RandomResizedCrop(4).boxes(4000, 4000, noise(20_000, 4)).numpy()
    area = boxes[:, 2] * boxes[:, 3] / 4000**2
    assert 0.51 < area.mean() < 0.54
    assert abs(np.mean(area < 0.31) - 0.25) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": 4.0}, "size must be"),
        ({"size": (4, 0)}, "size must be"),
        ({"size": (4, 4, 3)}, "size must be"),
        ({"size": 4, "area": (0.0, 1.0)}, "area must be"),
        ({"size": 4, "area": (0.5, 1.1)}, "area must be"),
        ({"size": 4, "aspect_ratio": (2.0, 1.0)}, "aspect_ratio must be"),
        ({"size": 4, "interpolation": "nearest"}, "interpolation must be one of"),
        ({"size": 4, "semantics": "torch"}, "semantics must be one of"),
    ],
)
def test_crop_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**arguments)


# RandomCrop


@pytest.mark.parametrize(
    ("draws", "top", "left"),
    [
        ((0.0, 0.0), 0, 0),
        ((ALMOST_ONE, ALMOST_ONE), 4, 6),
        ((0.5, 0.5), 2, 3),  # floor(0.5 * 5), floor(0.5 * 7)
        ((0.0, ALMOST_ONE), 0, 6),
        ((0.2, 0.1), 1, 0),
    ],
)
def test_random_crop_of_known_draws_is_that_slice(draws, top, left):
    images = noise(2, 9, 8, 3)
    result = augmented(RandomCrop((5, 2)), images, *draws)
    np.testing.assert_array_equal(result, images[:, top : top + 5, left : left + 2])


def test_every_image_is_cropped_at_its_own_place():
    images = np.broadcast_to(np.arange(6, dtype=np.float32), (3, 2, 6))[..., None] / 10
    uniforms = np.array([[0.5, 0.0], [0.5, 0.5], [0.5, 0.9]], np.float32)
    result = RandomCrop((2, 4)).augment(images, uniforms)
    np.testing.assert_allclose(result[:, 0, 0, 0], [0.0, 0.1, 0.2])


def test_all_places_of_a_random_crop_are_equally_likely():
    rows, columns = np.meshgrid(np.arange(5), np.arange(4), indexing="ij")
    image = (10 * rows + columns).astype(np.float32)[None, ..., None]
    images = np.repeat(image, 12_000, axis=0)
    corners = RandomCrop(3).augment(images, noise(12_000, 2)).numpy()[:, 0, 0, 0]
    places, counts = np.unique(corners, return_counts=True)
    assert places.tolist() == [0, 1, 10, 11, 20, 21]
    assert 1850 < counts.min() <= counts.max() < 2150  # 2000 expected, deviation 41


def test_random_crop_of_the_whole_image_returns_it():
    images = noise(2, 6, 6, 3)
    result = augmented(RandomCrop(6), images, 0.3, ALMOST_ONE)
    np.testing.assert_array_equal(result, images)


def test_random_crop_refuses_images_that_are_smaller():
    with pytest.raises(ValueError, match=r"at least \(7, 7\). Received: \(7, 6\)"):
        augmented(RandomCrop(7), noise(1, 7, 6, 3), 0.0, 0.0)


def test_random_crop_refuses_images_of_unknown_size():
    augment = tf.function(
        RandomCrop(4).augment,
        input_signature=[tf.TensorSpec([None, None, 8, 3]), tf.TensorSpec([None, 2])],
    )
    with pytest.raises(ValueError, match=r"known size, .* Received: \(None, 8\)"):
        augment.get_concrete_function()


@pytest.mark.parametrize("size", [0, 4.0, (4, 0), (4, 4, 3), "4"])
def test_random_crop_refuses_sizes_out_of_range(size):
    with pytest.raises(ValueError, match=r"size must be an int or \(height, width\)"):
        RandomCrop(size)


def test_random_crop_is_rebuilt_from_its_config():
    layer = RandomCrop((5, 2), seed=3)
    again = RandomCrop.from_config(layer.get_config())
    assert (again.size, again.seed) == ((5, 2), 3)
    assert layer(noise(2, 9, 8, 3)).shape == (2, 5, 2, 3)
