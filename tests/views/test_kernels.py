"""The compiled loops of the host compute the same as the reference, `augment`."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views.augmentations import (
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Lighting, Solarize

from support.images import noise, varied

# Far below 1/255, the difference of adjacent bytes.
TOLERANCE = 3e-4

LAYERS = {
    "flip": RandomHorizontalFlip(),
    "vertical flip": RandomVerticalFlip(),
    "grayscale": Grayscale(),
    "solarize": Solarize(0.4),
    "lighting": Lighting(),
    "jitter": ColorJitter(),
    "torchvision jitter": ColorJitter(semantics="torchvision"),
    "strong jitter": ColorJitter(1.5, 0.9, 1.0, 0.5),
    "strong torchvision jitter": ColorJitter(1.5, 0.9, 1.0, 0.5, "torchvision"),
    "jitter without hue": ColorJitter(hue=0.0),
    "blur": GaussianBlur(),
    "torchvision blur": GaussianBlur(semantics="torchvision"),
    "wide blur": GaussianBlur(sigma=(0.01, 5.0), radius=7),
    "sometimes": RandomApply(ColorJitter(), 0.5),
    "never": RandomApply(Solarize(), 0.0),
    "always": RandomApply(RandomApply(GaussianBlur(), 1.0), 1.0),
}


def by_arrays(layer, batch, uniforms, chosen=None):
    planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    if chosen is None:
        chosen = np.ones(len(batch), bool)
    layer.augment_arrays(planes, uniforms, chosen)
    return planes.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_equal_the_result_of_augment(name, channels):
    layer, batch = LAYERS[name], varied(channels=channels)
    uniforms = noise(len(batch), layer.draws, seed=1)
    expected = layer.augment(tf.constant(batch), tf.constant(uniforms)).numpy()
    found = by_arrays(layer, batch, uniforms)
    assert layer.has_arrays
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", LAYERS)
def test_images_that_are_not_chosen_do_not_change(name):
    layer, batch = LAYERS[name], varied()
    chosen = np.arange(len(batch)) % 2 == 0
    found = by_arrays(layer, batch, noise(len(batch), layer.draws, seed=1), chosen)
    np.testing.assert_array_equal(found[~chosen], batch[~chosen])
    if name != "never":
        assert np.abs(found[chosen] - batch[chosen]).max() > 0.01
