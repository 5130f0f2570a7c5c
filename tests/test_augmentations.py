import colorsys
import itertools
import math

import gin
import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.augmentations import (
    SEMANTICS,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    ImageAugmentation,
    RandomApply,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Solarize,
    is_stateless,
)

ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))
GREY = (0.2989, 0.5870, 0.1140)


def layers():
    """One of each layer, with several draws and semantics."""
    return [
        RandomResizedCrop(8),
        RandomResizedCrop((6, 9), interpolation="bilinear", semantics="torchvision"),
        RandomHorizontalFlip(),
        RandomVerticalFlip(0.25),
        ColorJitter(),
        ColorJitter(semantics="torchvision"),
        Grayscale(),
        GaussianBlur(),
        GaussianBlur(semantics="torchvision"),
        Solarize(),
        RandomApply(RandomApply(ColorJitter(), 0.8), rate=0.9),
    ]


every_layer = pytest.mark.parametrize(
    "layer", layers(), ids=lambda layer: f"{layer.name}"
)
both_semantics = pytest.mark.parametrize("semantics", SEMANTICS)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def augmented(layer, images, *draws):
    """`layer` on a batch with the same draws for every image, as NumPy."""
    uniforms = np.tile(np.array([draws], np.float32), (len(images), 1))
    return layer.augment(tf.constant(images, tf.float32), tf.constant(uniforms)).numpy()


def one_pixel(layer, rgb, *draws):
    return augmented(layer, np.reshape(rgb, (1, 1, 1, -1)), *draws)[0, 0, 0]


# Every layer


@every_layer
def test_same_uniforms_give_the_same_result(layer):
    images, uniforms = noise(3, 12, 10, 3), noise(3, layer.draws, seed=1)
    first, second = layer.augment(images, uniforms), layer.augment(images, uniforms)
    np.testing.assert_array_equal(first, second)


@every_layer
def test_an_image_alone_equals_its_row_in_a_batch(layer):
    images, uniforms = noise(5, 12, 10, 3), noise(5, layer.draws, seed=1)
    batch = layer.augment(images, uniforms).numpy()
    for i in range(5):
        alone = layer.augment(images[i : i + 1], uniforms[i : i + 1])[0]
        np.testing.assert_allclose(alone, batch[i], atol=2e-6)


@every_layer
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_results_are_float32_in_0_to_1_for_any_number_of_channels(layer, channels):
    images = np.round(noise(16, 7, 11, channels))
    result = layer.augment(images, noise(16, layer.draws, seed=1)).numpy()
    assert result.dtype == np.float32
    assert result.shape[-1] == channels
    assert result.min() >= 0.0
    assert result.max() <= 1.0


@every_layer
def test_runs_in_a_dataset_map_with_unknown_batch_size(layer):
    images, uniforms = noise(5, 12, 10, 3), noise(5, layer.draws, seed=1)
    dataset = tf.data.Dataset.from_tensor_slices((images, uniforms)).batch(2)
    dataset = dataset.map(layer.augment)
    assert dataset.element_spec.shape[0] is None
    assert dataset.element_spec.shape[-1] == 3
    np.testing.assert_allclose(
        np.concatenate(list(dataset)), layer.augment(images, uniforms), atol=2e-6
    )


def test_a_whole_view_compiles_under_xla():
    view = [RandomResizedCrop(8), RandomApply(ColorJitter(), 0.8), GaussianBlur()]

    def augment(images, uniforms):
        for layer in view:
            images = layer.augment(images, uniforms[:, : layer.draws])
        return images

    images, uniforms = noise(2, 10, 10, 3), noise(2, 6, seed=1)
    compiled = tf.function(augment, jit_compile=True)
    np.testing.assert_allclose(
        compiled(images, uniforms), augment(images, uniforms), atol=1e-5
    )


@every_layer
def test_config_round_trip_keeps_the_layer(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    images, uniforms = noise(2, 12, 10, 3), noise(2, layer.draws, seed=1)
    np.testing.assert_array_equal(
        again.augment(images, uniforms), layer.augment(images, uniforms)
    )


# As ordinary keras-cv layers


def test_as_a_layer_every_image_of_a_batch_has_its_own_draw():
    layer = RandomHorizontalFlip(seed=0)
    images = np.tile(noise(1, 2, 4, 3), (200, 1, 1, 1))
    result = layer(images).numpy()
    flipped = np.mean([np.array_equal(x, images[0, :, ::-1]) for x in result])
    kept = np.mean([np.array_equal(x, images[0]) for x in result])
    assert flipped + kept == 1.0
    assert 0.35 < flipped < 0.65


def test_as_a_layer_it_takes_one_image():
    image = noise(4, 5, 3)
    result = RandomHorizontalFlip(rate=1.0)(image)
    np.testing.assert_array_equal(result, image[:, ::-1])


def test_as_a_layer_it_keeps_labels():
    inputs = {"images": noise(2, 4, 5, 3), "labels": np.array([3.0, 4.0], np.float32)}
    result = Solarize()(inputs)
    np.testing.assert_array_equal(result["labels"], inputs["labels"])
    assert not np.array_equal(result["images"], inputs["images"])


@pytest.mark.filterwarnings("error:.*build")
def test_as_a_layer_it_runs_in_a_dataset_map():
    layer = RandomApply(ColorJitter(), rate=0.5)
    dataset = tf.data.Dataset.from_tensor_slices(noise(6, 4, 4, 3)).batch(3)
    shapes = [batch.shape for batch in dataset.map(lambda images: layer(images))]
    assert shapes == [(3, 4, 4, 3), (3, 4, 4, 3)]


@pytest.mark.parametrize("seed", [0, 7])
def test_as_a_layer_the_same_seed_draws_the_same(seed):
    images = noise(8, 4, 4, 3)
    first, second = ColorJitter(seed=seed)(images), ColorJitter(seed=seed)(images)
    np.testing.assert_array_equal(first, second)


def test_as_a_layer_it_stays_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert Solarize()(noise(2, 4, 4, 3)).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy("float32")


def test_ragged_images_are_refused():
    images = tf.ragged.stack([noise(3, 4, 3), noise(5, 4, 3)])
    with pytest.raises(ValueError, match="images must be of one size"):
        Solarize()(images)


def test_bounding_boxes_are_refused():
    inputs = {"images": noise(1, 4, 4, 3), "bounding_boxes": np.zeros((1, 1, 4))}
    with pytest.raises(ValueError, match=r"only labels or targets.*bounding_boxes"):
        RandomHorizontalFlip()(inputs)


def test_a_dict_without_images_is_refused():
    with pytest.raises(ValueError, match=r"inputs must hold images.*\['labels'\]"):
        Solarize()({"labels": np.zeros(1, np.float32)})


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
def test_boxes_lie_inside_the_image(semantics, size):
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


def test_torchvision_takes_the_first_try_that_fits():
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


# Flips


@pytest.mark.parametrize("layer", [RandomHorizontalFlip, RandomVerticalFlip])
def test_flip_happens_below_the_rate_only(layer):
    images = noise(1, 3, 4, 2)
    mirrored = images[:, :, ::-1] if layer is RandomHorizontalFlip else images[:, ::-1]
    np.testing.assert_array_equal(augmented(layer(0.5), images, 0.49), mirrored)
    np.testing.assert_array_equal(augmented(layer(0.5), images, 0.5), images)
    np.testing.assert_array_equal(augmented(layer(0.0), images, 0.0), images)
    np.testing.assert_array_equal(augmented(layer(1.0), images, ALMOST_ONE), mirrored)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_rate_outside_0_to_1_is_refused(rate):
    for make in (RandomHorizontalFlip, lambda r: RandomApply(Solarize(), r)):
        with pytest.raises(ValueError, match=r"rate must be in 0\.\.1. Received"):
            make(rate)


# ColorJitter


def reference_jitter(semantics, name, pixels, shift):
    """One operation on float64 `[H, W, 3]`, written pixel by pixel."""

    def hsv(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        if name == "hue":
            return colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
        return colorsys.hsv_to_rgb(h, min(s * (1 + shift), 1.0), v)

    grey = (pixels @ GREY)[..., None]
    if name == "hue" or (name == "saturation" and semantics == "deepmind"):
        result = np.apply_along_axis(hsv, -1, pixels)
    elif name == "brightness":
        result = pixels + shift if semantics == "deepmind" else pixels * (1 + shift)
    else:
        about = grey
        if name == "contrast":
            about = pixels.mean((0, 1)) if semantics == "deepmind" else grey.mean()
        result = about + (pixels - about) * (1 + shift)
    return np.clip(result, 0.0, 1.0)


STRENGTHS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
ORDERS = list(itertools.permutations(range(4)))


@both_semantics
@pytest.mark.parametrize("name", STRENGTHS)
def test_each_jitter_operation_equals_its_definition(semantics, name):
    strengths = dict.fromkeys(STRENGTHS, 0.0) | {name: STRENGTHS[name]}
    layer = ColorJitter(**strengths, semantics=semantics)
    images = noise(2, 5, 6, 3)
    images[0, 0] = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    for draw in (0.0, 0.3, 0.9):
        shift = (2 * draw - 1) * STRENGTHS[name]
        expected = [reference_jitter(semantics, name, x, shift) for x in images]
        result = augmented(layer, images, draw, draw, draw, draw, 0.0)
        np.testing.assert_allclose(result, expected, atol=2e-6)


@both_semantics
def test_jitter_follows_every_one_of_the_24_orders(semantics):
    layer = ColorJitter(**STRENGTHS, semantics=semantics)
    images = np.tile(noise(1, 4, 4, 3), (24, 1, 1, 1))
    draws = [0.95, 0.9, 0.85, 0.05]
    orders = (np.arange(24, dtype=np.float32) + 0.5) / 24
    uniforms = np.concatenate([np.tile(draws, (24, 1)), orders[:, None]], axis=1)
    result = layer.augment(images, tf.cast(uniforms, tf.float32)).numpy()

    names, expected = list(STRENGTHS), []
    for places in ORDERS:
        pixels = images[0].astype(np.float64)
        for i in np.argsort(places):
            shift = (2 * draws[i] - 1) * STRENGTHS[names[i]]
            pixels = reference_jitter(semantics, names[i], pixels, shift)
        expected.append(pixels)
    np.testing.assert_allclose(result, expected, atol=5e-6)
    # The orders matter: clipping tells nearly all of them apart.
    assert len(np.unique(np.round(result.reshape(24, -1), 5), axis=0)) >= 12


@both_semantics
def test_jitter_at_the_middle_of_its_range_changes_nothing(semantics):
    images = noise(2, 5, 5, 3)
    result = augmented(ColorJitter(semantics=semantics), images, *[0.5] * 4, 0.7)
    np.testing.assert_allclose(result, images, atol=1e-6)


def test_jitter_without_strength_returns_its_input_exactly():
    images = noise(2, 5, 5, 3)
    np.testing.assert_array_equal(
        augmented(ColorJitter(0.0, 0.0, 0.0, 0.0), images, *[0.9] * 5), images
    )


def test_brightness_is_additive_in_one_semantics_and_a_factor_in_the_other():
    def brighten(semantics):
        return one_pixel(
            ColorJitter(0.4, 0.0, 0.0, 0.0, semantics), [0.2, 0.5, 0.8], *[0.75] * 5
        )

    np.testing.assert_allclose(brighten("deepmind"), [0.4, 0.7, 1.0], rtol=1e-6)
    np.testing.assert_allclose(brighten("torchvision"), [0.24, 0.6, 0.96], rtol=1e-6)


def test_contrast_keeps_constant_channels_in_deepmind_semantics():
    images = np.broadcast_to(np.float32([0.2, 0.5, 0.8]), (1, 4, 4, 3))
    result = augmented(ColorJitter(0.0, 0.4, 0.0, 0.0), images, *[0.9] * 5)
    np.testing.assert_allclose(result, images, atol=1e-6)


@both_semantics
def test_saturation_and_hue_leave_grey_images_alone(semantics):
    images = np.repeat(noise(1, 4, 4, 1), 3, axis=-1)
    layer = ColorJitter(0.0, 0.0, 0.9, 0.5, semantics)
    result = augmented(layer, images, *[0.1] * 5)
    np.testing.assert_allclose(result, images, atol=1e-4)  # weights sum to 0.9999


def test_half_a_turn_of_hue_gives_the_complement():
    layer = ColorJitter(0.0, 0.0, 0.0, 0.5)
    result = one_pixel(layer, [1.0, 0.0, 0.0], 0.5, 0.5, 0.5, 0.0, 0.0)
    np.testing.assert_allclose(result, [0.0, 1.0, 1.0], atol=1e-6)


@both_semantics
def test_one_channel_has_brightness_and_contrast_only(semantics):
    images = noise(1, 4, 4, 1)
    coloured = augmented(ColorJitter(0.0, 0.0, 0.9, 0.5, semantics), images, *[0.1] * 5)
    np.testing.assert_array_equal(coloured, images)
    contrasted = augmented(
        ColorJitter(0.0, 0.4, 0.9, 0.5, semantics), images, *[0.75] * 5
    )
    expected = np.clip(images.mean() + 1.2 * (images - images.mean()), 0, 1)
    np.testing.assert_allclose(contrasted, expected, atol=1e-6)


def test_strength_above_one_never_gives_a_negative_factor():
    layer = ColorJitter(3.0, 0.0, 0.0, 0.0, "torchvision")
    assert one_pixel(layer, [0.2, 0.2, 0.2], *[0.0] * 5).tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(
        one_pixel(layer, [0.2, 0.2, 0.2], 0.25, *[0.0] * 4), [0.2] * 3, rtol=1e-6
    )


@pytest.mark.parametrize("name", STRENGTHS)
def test_jitter_refuses_negative_strengths(name):
    with pytest.raises(
        ValueError, match=rf"{name} must be at least 0\. Received: -0\.1"
    ):
        ColorJitter(**{name: -0.1})


def test_jitter_refuses_hue_above_half_a_turn():
    with pytest.raises(ValueError, match=r"hue must be at most 0\.5"):
        ColorJitter(hue=0.6)


def test_images_without_a_known_number_of_channels_are_refused():
    augment = tf.function(
        Grayscale().augment,
        input_signature=[
            tf.TensorSpec([None, 4, 4, None]),
            tf.TensorSpec([None, 0]),
        ],
    )
    with pytest.raises(ValueError, match="known number of channels"):
        augment.get_concrete_function()


# Grayscale, GaussianBlur, Solarize


def test_grey_of_a_known_pixel():
    result = one_pixel(Grayscale(), [0.2, 0.4, 0.6])
    np.testing.assert_allclose(result, [0.36298] * 3, rtol=1e-6)


def test_grey_of_other_than_three_channels_is_their_mean():
    np.testing.assert_array_equal(one_pixel(Grayscale(), [0.3]), np.float32([0.3]))
    result = one_pixel(Grayscale(), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(result, [0.5] * 4, rtol=1e-6)


def impulse_response(sigma, size, **arguments):
    """The row through the centre of a blurred vertical line."""
    images = np.zeros((1, size, size, 1), np.float32)
    images[0, :, size // 2] = 1.0
    layer = GaussianBlur((sigma, sigma), **arguments)
    return augmented(layer, images, 0.0)[0, size // 2, :, 0]


@pytest.mark.parametrize(
    ("sigma", "taps"),
    [
        (1.0, [0.3989422783, 0.2419707232, 0.05399096622, 0.004431848388]),
        (2.0, [0.1994711415, 0.1760326645, 0.120985363, 0.06475879824]),
        (0.1, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_blur_kernel_of_23_taps(sigma, taps):
    row = impulse_response(sigma, 61, radius=11)
    np.testing.assert_allclose(row[30:34], taps, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(row[30:26:-1], taps, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("height", "radius"), [(224, 11), (128, 6), (96, 4), (32, 1), (8, 1)]
)
def test_deepmind_radius_is_a_twentieth_of_the_height(height, radius):
    images = np.zeros((1, height, 64, 1), np.float32)
    images[0, :, 32] = 1.0
    row = augmented(GaussianBlur((4.0, 4.0)), images, 0.0)[0, height // 2, :, 0]
    assert np.flatnonzero(row).tolist() == list(range(32 - radius, 33 + radius))


def test_torchvision_radius_is_four_sigma():
    row = impulse_response(2.0, 41, semantics="torchvision")
    assert np.flatnonzero(row).tolist() == list(range(12, 29))


def test_deepmind_blur_darkens_the_borders_of_a_constant_image():
    result = augmented(
        GaussianBlur((2.0, 2.0), radius=11), np.ones((1, 40, 40, 1)), 0.0
    )[0, :, :, 0]
    np.testing.assert_allclose(result[0, 20], 0.599735570734, rtol=1e-5)
    np.testing.assert_allclose(result[0, 0], 0.359682754804, rtol=1e-5)
    np.testing.assert_allclose(result[20, 20], 1.0, rtol=1e-5)


def test_torchvision_blur_keeps_a_constant_image():
    images = np.full((1, 9, 5, 3), 0.7, np.float32)
    result = augmented(GaussianBlur(semantics="torchvision"), images, 0.9)
    np.testing.assert_allclose(result, images, rtol=1e-5)


def test_torchvision_blur_repeats_the_edge_pixels():
    images = noise(1, 12, 9, 1)
    padded = np.pad(images[0, :, :, 0].astype(np.float64), 4, mode="edge")
    taps = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    taps /= taps.sum()
    expected = sum(
        a * b * padded[i : i + 12, j : j + 9]
        for i, a in enumerate(taps)
        for j, b in enumerate(taps)
    )
    layer = GaussianBlur((1.5, 1.5), radius=4, semantics="torchvision")
    result = augmented(layer, images, 0.0)[0, :, :, 0]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_sigma_is_uniform_between_its_bounds():
    images = np.tile(
        np.eye(1, 41, 20, dtype=np.float32)[:, None, :, None], (2, 1, 1, 1)
    )
    images = np.tile(images, (1, 41, 1, 1))
    layer = GaussianBlur((0.5, 1.5), radius=9)
    rows = layer.augment(images, np.float32([[0.0], [0.5]])).numpy()[:, 20, :, 0]
    # The second neighbour's share of the centre is exp(-2 / sigma^2).
    np.testing.assert_allclose(rows[:, 22] / rows[:, 20], np.exp([-8, -2]), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": (0.0, 1.0)}, "sigma must be"),
        ({"sigma": (2.0, 1.0)}, "sigma must be"),
        ({"radius": 0}, "radius must be None or an int of at least 1"),
        ({"radius": 1.5}, "radius must be None or an int of at least 1"),
        ({"semantics": "pil"}, "semantics must be one of"),
    ],
)
def test_blur_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianBlur(**arguments)


def test_solarize_inverts_from_the_threshold_on():
    result = one_pixel(Solarize(), [0.0, 0.25, 0.4999, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(result, [0.0, 0.25, 0.4999, 0.5, 0.25, 0.0], rtol=1e-6)


def test_solarize_at_128_equals_pil_on_uint8():
    pixels = tf.constant([0, 127, 128, 200, 255], tf.uint8)
    result = one_pixel(Solarize(128 / 255), tf.cast(pixels, tf.float32) / 255.0)
    np.testing.assert_allclose(result * 255, [0, 127, 127, 55, 0], atol=1e-4)


def test_solarize_refuses_a_threshold_on_the_255_scale():
    with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1. Received: 128"):
        Solarize(128)


# RandomApply, is_stateless, gin


def test_gate_opens_for_the_rate_of_the_images():
    images = np.ones((20_000, 1, 1, 1), np.float32)
    gate = RandomApply(Solarize(), rate=0.2)
    result = gate.augment(images, noise(20_000, gate.draws)).numpy()
    assert abs(np.mean(result == 0.0) - 0.2) < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_gate_decides_by_its_first_draw_and_passes_on_the_others(rate):
    inner = ColorJitter()
    images, uniforms = tf.constant(noise(6, 4, 4, 3)), noise(6, 6, seed=1)
    result = RandomApply(inner, rate).augment(images, uniforms).numpy()
    jittered = inner.augment(images, uniforms[:, 1:]).numpy()
    for i in range(6):
        expected = jittered[i] if uniforms[i, 0] < rate else images[i]
        np.testing.assert_array_equal(result[i], expected)


def test_gate_applies_a_stock_layer_to_single_images():
    stock = keras_cv.layers.Solarization((0, 1), threshold_factor=(0.0, 0.0))
    gate = RandomApply(stock, rate=0.5)
    assert gate.draws == 1
    images = np.full((4, 2, 2, 3), 0.75, np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(
        (images, np.float32([[0.1], [0.9], [0.4], [0.6]]))
    ).batch(4)
    result = next(iter(dataset.map(gate.augment))).numpy()
    np.testing.assert_allclose(result[:, 0, 0, 0], [0.25, 0.75, 0.25, 0.75], atol=1e-2)


def test_gate_with_a_stock_layer_survives_its_config():
    gate = RandomApply(keras_cv.layers.RandomFlip("vertical"), rate=0.3)
    again = RandomApply.from_config(gate.get_config())
    assert isinstance(again.layer, keras_cv.layers.RandomFlip)
    assert again.layer.mode == "vertical"
    assert again.rate == 0.3


def test_gate_refuses_a_layer_that_changes_the_shape():
    gate = RandomApply(RandomResizedCrop(3), rate=0.5)
    with pytest.raises(ValueError, match="layer must keep the shape"):
        gate.augment(tf.zeros((1, 4, 4, 3)), tf.zeros((1, gate.draws)))


def test_gate_refuses_what_is_no_layer():
    with pytest.raises(ValueError, match="layer must be a keras layer"):
        RandomApply(Solarize, rate=0.5)


def test_only_augmentations_of_uniforms_are_stateless():
    stock = keras_cv.layers.RandomFlip()
    assert is_stateless(ColorJitter())
    assert is_stateless(RandomApply(RandomApply(Solarize(), 0.5), 0.5))
    assert not is_stateless(stock)
    assert not is_stateless(RandomApply(RandomApply(stock, 0.5), 0.5))


def test_an_augmentation_of_ones_own_needs_draws_and_augment_only():
    class Fade(ImageAugmentation):
        draws = 1

        def augment(self, images, uniforms):
            return images * uniforms[:, :, None, None]

    result = RandomApply(Fade(), 1.0).augment(
        tf.ones((1, 2, 2, 1)), np.float32([[0.0, 0.25]])
    )
    np.testing.assert_array_equal(result, np.full((1, 2, 2, 1), 0.25))
    assert is_stateless(Fade())


def test_gin_builds_layers_with_flat_scopes():
    @gin.register(module="test_augmentations")
    def view(layers):
        return layers

    config = """
        view.layers = [@RandomResizedCrop(), @jitter/RandomApply(), @blur/RandomApply()]
        RandomResizedCrop.size = 8
        jitter/RandomApply.layer = @ColorJitter()
        jitter/RandomApply.rate = 0.8
        blur/RandomApply.layer = @GaussianBlur()
        blur/RandomApply.rate = 0.1
        ColorJitter.semantics = "torchvision"
    """
    with gin.unlock_config():
        gin.clear_config()
        gin.parse_config(config)
        crop, jitter, blur = gin.get_configurable(view)()
        gin.clear_config()
    assert (crop.size, jitter.rate, blur.rate) == (8, 0.8, 0.1)
    assert jitter.layer.semantics == "torchvision"
    assert isinstance(blur.layer, GaussianBlur)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(jitter)
    )
    assert again.layer.semantics == "torchvision"
