"""Baselines: raw pixels without a model, and new random weights by the seed."""

import keras
import numpy as np
import pytest

from byol_keras.benchmarks.baselines import BASELINES


@pytest.fixture(scope="module")
def trained():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, {"avgpool": pooled})


def kernel(model):
    return model.weights[0].numpy()


def test_raw_pixels_are_the_images_flattened(trained):
    images = np.random.default_rng(0).random((2, 3, 4, 1), np.float32)
    found = BASELINES["raw_pixels"](trained, seed=0)(images)
    np.testing.assert_array_equal(found, images.reshape(2, 12))


def test_random_weights_are_a_function_of_the_seed(trained):
    first, again, other = (BASELINES["random_init"](trained, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(kernel(first), kernel(again))
    assert (kernel(first) != kernel(other)).all()
    assert (kernel(first) != kernel(trained)).all()


def test_trained_weights_are_not_changed(trained):
    before = kernel(trained)
    BASELINES["random_init"](trained, seed=0)
    np.testing.assert_array_equal(kernel(trained), before)
