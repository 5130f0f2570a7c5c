"""Every operation on colours equals its definition, pixel by pixel."""

import colorsys
import itertools

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views.colors import ColorJitter, Grayscale, Lighting, Solarize

from support.images import ALMOST_ONE, augmented, both_semantics, noise, one_pixel

GREY = (0.2989, 0.5870, 0.1140)


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
    # The orders matter: because of clipping, nearly all of them differ.
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
def test_saturation_and_hue_do_not_change_grey_images(semantics):
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


# Grayscale, Solarize


def test_grey_of_a_known_pixel():
    result = one_pixel(Grayscale(), [0.2, 0.4, 0.6])
    np.testing.assert_allclose(result, [0.36298] * 3, rtol=1e-6)


def test_grey_image_of_other_numbers_of_channels_is_their_mean():
    np.testing.assert_array_equal(one_pixel(Grayscale(), [0.3]), np.float32([0.3]))
    result = one_pixel(Grayscale(), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(result, [0.5] * 4, rtol=1e-6)


def test_solarize_inverts_pixels_at_and_above_the_threshold():
    result = one_pixel(Solarize(), [0.0, 0.25, 0.4999, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(result, [0.0, 0.25, 0.4999, 0.5, 0.25, 0.0], rtol=1e-6)


def test_solarize_at_128_equals_pil_on_uint8():
    pixels = tf.constant([0, 127, 128, 200, 255], tf.uint8)
    result = one_pixel(Solarize(128 / 255), tf.cast(pixels, tf.float32) / 255.0)
    np.testing.assert_allclose(result * 255, [0, 127, 127, 55, 0], atol=1e-4)


def test_solarize_refuses_a_threshold_on_the_255_scale():
    with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1. Received: 128"):
        Solarize(128)


# Lighting

ONE_SIGMA = 0.8413447460685429  # of the normal distribution function at 1


@pytest.mark.parametrize(
    ("place", "component"),
    [
        (0, [-0.5675 * 0.2175, -0.5808 * 0.2175, -0.5836 * 0.2175]),
        (1, [0.7192 * 0.0188, -0.0045 * 0.0188, -0.6948 * 0.0188]),
        (2, [0.4009 * 0.0045, -0.8140 * 0.0045, 0.4203 * 0.0045]),
    ],
)
def test_lighting_adds_alpha_times_the_principal_component(place, component):
    draws = [0.5, 0.5, 0.5]  # alpha 0
    draws[place] = ONE_SIGMA  # alpha equal to its standard deviation
    shift = one_pixel(Lighting(0.1), [0.5, 0.5, 0.5], *draws) - 0.5
    np.testing.assert_allclose(shift, 0.1 * np.array(component), atol=2e-7)
    shift = one_pixel(Lighting(0.2), [0.5, 0.5, 0.5], *draws) - 0.5
    np.testing.assert_allclose(shift, 0.2 * np.array(component), atol=2e-7)


def test_lighting_shifts_all_pixels_of_an_image_alike_and_each_image_by_its_own_draws():
    images = 0.3 + 0.4 * noise(3, 4, 5, 3)
    shifts = Lighting().augment(images, noise(3, 3, seed=1)) - images
    per_image = shifts.numpy()[:, :1, :1]
    np.testing.assert_allclose(shifts, np.tile(per_image, (1, 4, 5, 1)), atol=1e-6)
    assert len(np.unique(np.round(per_image[..., 0], 6))) == 3


def test_lighting_at_the_middle_of_its_draws_changes_nothing():
    images = noise(2, 4, 4, 3)
    result = augmented(Lighting(), images, 0.5, 0.5, 0.5)
    np.testing.assert_array_equal(result, images)


def test_alpha_is_normal_with_its_standard_deviation():
    images = np.full((20_000, 1, 1, 3), 0.5, np.float32)
    shifts = Lighting().augment(images, noise(20_000, 3)).numpy()[:, 0, 0] - 0.5
    alpha = shifts @ [-0.5675, -0.5808, -0.5836] / 0.2175
    assert abs(alpha.mean()) < 0.003
    assert abs(alpha.std() - 0.1) < 0.002
    assert abs(np.mean(np.abs(alpha) < 0.1) - 0.6827) < 0.01


@pytest.mark.parametrize("draw", [0.0, ALMOST_ONE])
def test_lighting_of_the_extreme_draws_is_finite_and_in_0_to_1(draw):
    images = np.full((1, 1, 1, 3), 0.5, np.float32)
    shift = augmented(Lighting(), images, draw, draw, draw) - 0.5
    assert 0.05 < np.abs(shift[..., 0]).max() < 0.1
    result = augmented(Lighting(10.0), images, draw, draw, draw)
    assert np.all((result == 0.0) | (result == 1.0))


def test_lighting_changes_only_images_of_three_channels():
    images = noise(2, 4, 4, 1)
    np.testing.assert_array_equal(augmented(Lighting(), images, 0.9, 0.9, 0.9), images)


def test_lighting_refuses_a_negative_deviation():
    with pytest.raises(ValueError, match=r"alpha_std must be at least 0. Received: -1"):
        Lighting(-1)


def test_lighting_is_rebuilt_from_its_config():
    layer = Lighting(0.3, seed=1)
    again = Lighting.from_config(layer.get_config())
    assert (again.alpha_std, again.seed) == (0.3, 1)
