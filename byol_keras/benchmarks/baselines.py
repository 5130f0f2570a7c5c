"""Baselines of a trained backbone: raw pixels, and its random initialization."""

import keras
from keras import ops

from byol_keras.export import reinitialized


class RawPixels(keras.Model):
    """A backbone that returns the pixels, `[B, H, W, C]` -> `[B, H * W * C]`."""

    def call(self, images):
        return ops.reshape(images, (ops.shape(images)[0], -1))


def raw_pixels(backbone: keras.Model, seed: int) -> keras.Model:
    """The pixels as features, without any learning. Arguments are not used."""
    return RawPixels(name="raw_pixels")


def random_init(backbone: keras.Model, seed: int) -> keras.Model:
    """The same architecture with new random weights, a function of the seed."""
    return reinitialized(backbone, seed)


BASELINES = {"raw_pixels": raw_pixels, "random_init": random_init}
