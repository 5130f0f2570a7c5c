"""The Gaussian blur has the taps, borders and radii of both references."""

import numpy as np
import pytest

from byol_keras.views.blurs import GaussianBlur

from support.images import augmented, noise


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
        ({"radius": 0}, "radius must be None or a positive int"),
        ({"radius": 1.5}, "radius must be None or a positive int"),
        ({"semantics": "pil"}, "semantics must be one of"),
    ],
)
def test_blur_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianBlur(**arguments)
