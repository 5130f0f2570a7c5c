"""GaussianBlur, as a product of the image with one banded matrix per axis."""

import math

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.runtime.argument_checks import is_positive_int
from byol_keras.views import kernels
from byol_keras.views.augmentations import (
    ImageAugmentation,
    between,
    interval,
    known_semantics,
    require,
    resample,
)


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class GaussianBlur(ImageAugmentation):
    """Blurs every image by a Gaussian of random width.

    "deepmind" pads with zeros, which darkens the borders; "torchvision" extends the
    edge pixels.

    Args:
        sigma: (low, high). Standard deviation in pixels, drawn uniformly; above 0.
        radius: int or None. The kernel has `2 * radius + 1` taps. None means, under
            "deepmind", a twentieth of the height but at least 1 (11 at 224, 6 at 128),
            and under "torchvision" 4 times the largest sigma.
        semantics: "deepmind" or "torchvision".

    Raises:
        ValueError: if an argument is out of its range.

    Source: deepmind-research byol; arXiv 2006.07733 appendix B.
    Deviation: torchvision's PIL approximates the Gaussian by box filters; this layer
        does not.
    """

    draws = 1

    def __init__(self, sigma=(0.1, 2.0), radius=None, semantics="deepmind", **kwargs):
        super().__init__(**kwargs)
        self.sigma = interval("sigma", sigma)
        require(
            radius is None or is_positive_int(radius),
            "radius must be None or a positive int",
            radius,
        )
        self.radius = None if radius is None else int(radius)
        self.semantics = known_semantics(semantics)

    def augment(self, images, uniforms):
        shape = tf.shape(images)
        radius = self._radius(shape[1])
        offsets = tf.range(-radius, radius + 1)
        sigma = between(uniforms[:, 0], *self.sigma)
        taps = tf.exp(-0.5 * tf.square(tf.cast(offsets, tf.float32) / sigma[:, None]))
        taps /= tf.reduce_sum(taps, axis=1, keepdims=True)
        rows = self._matrices(taps, offsets, shape[1])
        columns = self._matrices(taps, offsets, shape[2])
        return tf.clip_by_value(resample(images, rows, columns), 0.0, 1.0)

    def augment_arrays(self, planes, uniforms, chosen):
        low, high = np.float32(self.sigma)
        sigmas = low + uniforms[:, 0] * (high - low)
        extends = self.semantics == "torchvision"
        radius = self._radius(planes.shape[2])
        kernels.blur(planes, chosen, sigmas, radius, extends)

    def _radius(self, height):
        """Radius of the kernel for images of this height, an int or a tensor."""
        if self.radius is not None:
            return self.radius
        if self.semantics == "torchvision":
            return math.ceil(4.0 * self.sigma[1])
        at_least = tf.maximum if tf.is_tensor(height) else max
        return at_least(height // 20, 1)

    def _matrices(self, taps, offsets, size):
        """`[B, size, size]`: weights of an axis's pixels in each blurred pixel."""
        sources = tf.range(size)[:, None] + offsets
        if self.semantics == "torchvision":
            sources = tf.clip_by_value(sources, 0, size - 1)
        # Sources outside the image have an empty one-hot row: zero padding.
        return tf.einsum("bk,ikj->bij", taps, tf.one_hot(sources, size))

    def get_config(self):
        return {
            **super().get_config(),
            "sigma": self.sigma,
            "radius": self.radius,
            "semantics": self.semantics,
        }
