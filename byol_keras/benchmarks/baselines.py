"""What a trained backbone is compared with: raw pixels and its own untrained self."""

import keras
from keras import ops

from byol_keras.export import reinitialized


class RawPixels(keras.Model):
    """A backbone that returns the pixels: `[B, H, W, C]` -> `[B, H * W * C]`."""

    def call(self, images):
        return ops.reshape(images, (ops.shape(images)[0], -1))


def raw_pixels(backbone: keras.Model, seed: int) -> keras.Model:
    """Features that nothing was learned for."""
    return RawPixels(name="raw_pixels")


def random_init(backbone: keras.Model, seed: int) -> keras.Model:
    """The same architecture with fresh random weights."""
    return reinitialized(backbone, seed)


BASELINES = {"raw_pixels": raw_pixels, "random_init": random_init}
