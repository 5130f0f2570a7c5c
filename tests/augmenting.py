"""What the tests of augmentations share: random images, and layers with given draws."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.augmentations import SEMANTICS

ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))

both_semantics = pytest.mark.parametrize("semantics", SEMANTICS)


def noise(*shape, seed=0):
    """float32 in 0..1, 1 excluded, of the given shape."""
    return np.random.default_rng(seed).random(shape, np.float32)


def augmented(layer, images, *draws):
    """`layer` on a batch with the same draws for every image, as NumPy."""
    uniforms = np.tile(np.array([draws], np.float32), (len(images), 1))
    return layer.augment(tf.constant(images, tf.float32), tf.constant(uniforms)).numpy()


def one_pixel(layer, rgb, *draws):
    return augmented(layer, np.reshape(rgb, (1, 1, 1, -1)), *draws)[0, 0, 0]
