"""Augmentations of pixel values: color jitter, greyscale, solarization, lighting."""

import itertools
from collections.abc import Iterator
from statistics import NormalDist

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.views import kernels
from byol_keras.views.augmentations import (
    ImageAugmentation,
    between,
    known_semantics,
    require,
    whole,
)

# Row: the places of brightness, contrast, saturation and hue in an order; and its
# inverse, the operation at each place.
_PLACES = tuple(itertools.permutations(range(4)))
_ORDERS = np.argsort(_PLACES, axis=1)

# Principal components of the colours of ImageNet, in 0..1: eigenvalues; eigenvectors,
# one row per channel. Source: AlexNet; numbers as in mmselfsup 0.x.
_REACH = (0.2175, 0.0188, 0.0045)
_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
# The smallest uniform number above 0; the normal quantile of 0 is infinite.
_LEAST = 2.0**-24


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class ColorJitter(ImageAugmentation):
    """Shifts brightness, contrast, saturation and hue, in a random order per image.

    For a strength `s`, the shift `d` is uniform in -s..s, but at least -1:

    | operation  | "deepmind"                 | "torchvision"                 |
    |------------|----------------------------|-------------------------------|
    | brightness | x + d                      | x (1 + d)                     |
    | contrast   | m + (x - m) (1 + d),       | the same,                     |
    |            | m: mean of the channel     | m: mean of the grey image     |
    | saturation | HSV's S times 1 + d        | g + (x - g) (1 + d), g: grey  |
    | hue        | HSV's H + d turns          | the same                      |

    The result of each operation is clipped to 0..1; all 24 orders are equally likely.
    For images whose number of channels is not 3, only brightness and contrast change,
    and the grey image is the mean of the channels.

    Args:
        brightness, contrast, saturation: float. Strengths, at least 0.
        hue: float. Strength in turns, 0..0.5.
        semantics: "deepmind" or "torchvision".

    Raises:
        ValueError: if a strength is out of its range.

    Source: arXiv 2006.07733 appendix B, table 6.
    """

    draws = 5

    def __init__(
        self,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        semantics="deepmind",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        for name, strength in self._strengths().items():
            require(strength >= 0.0, f"{name} must be at least 0", strength)
        require(hue <= 0.5, "hue must be at most 0.5 turns", hue)
        self.semantics = known_semantics(semantics)

    def augment(self, images, uniforms):
        channels = _channels(images)
        linear, hsv = self._groups(len(channels))
        for group, shifts in _steps(linear, hsv, *self._draw(uniforms)):
            if group is hsv:
                channels = _shift_hsv(channels, **shifts)
            else:
                channels = self._shift_linear(channels, **shifts)
        return tf.stack(channels, axis=-1)

    def augment_arrays(self, planes, uniforms, chosen):
        linear, hsv = self._groups(planes.shape[1])
        lows, highs = self._bounds()
        shifts = lows + uniforms[:, :4] * (highs - lows)
        shifts *= [name in linear + hsv for name in self._strengths()]
        orders = _ORDERS[(uniforms[:, 4] * len(_PLACES)).astype(int)]
        weights = _gray_weights(planes.shape[1])
        multiplies = self.semantics == "torchvision"
        kernels.jitter(
            planes, chosen, shifts.astype(np.float32), orders, weights, multiplies
        )

    def shifts(self, uniforms: np.ndarray, channels: int) -> list[tuple[str, float]]:
        """Names and shifts of the operations on one image, in the order of application.

        Args:
            uniforms: float32 `[draws]` of the image.
            channels: int. Of the image.
        """
        lows, highs = self._bounds()
        shifts = lows + uniforms[:4] * (highs - lows)
        names = [*self._strengths()]
        active = [name for group in self._groups(channels) for name in group]
        order = _ORDERS[int(uniforms[4] * len(_PLACES))]
        return [(names[i], float(shifts[i])) for i in order if names[i] in active]

    def _groups(self, channels):
        """Names of the operations with an effect: linear ones, and those on HSV."""
        linear, hsv = ["brightness", "contrast"], []
        if channels == 3:
            (hsv if self.semantics == "deepmind" else linear).append("saturation")
            hsv.append("hue")
        return tuple(
            [n for n in names if getattr(self, n) > 0] for names in (linear, hsv)
        )

    def _draw(self, uniforms):
        """Shift, and place in the order, of each operation: dicts of `[B]`."""
        shifts = {
            name: between(uniforms[:, i], low, high)
            for i, (name, low, high) in enumerate(
                zip(self._strengths(), *self._bounds(), strict=True)
            )
        }
        order = tf.cast(whole(uniforms[:, 4], len(_PLACES)), tf.int32)
        places = tf.unstack(tf.gather(_PLACES, order), axis=1)
        return shifts, dict(zip(shifts, places, strict=True))

    def _bounds(self):
        """float32 `[4]` and `[4]`: least and largest shift of each operation."""
        highs = np.array([*self._strengths().values()], np.float32)
        return -np.minimum(highs, 1.0), highs

    def _strengths(self):
        names = ("brightness", "contrast", "saturation", "hue")
        return {name: getattr(self, name) for name in names}

    def _shift_linear(self, channels, brightness=0.0, contrast=0.0, saturation=0.0):
        """The three operations as `scale * x + offset`; shifts of 0 change nothing."""
        if self.semantics == "deepmind":
            scale = 1.0 + contrast
            offsets = [brightness - contrast * _mean(x) for x in channels]
        else:
            grey = _grey(channels)
            scale = 1.0 + brightness + contrast + saturation
            offsets = [-contrast * _mean(grey) - saturation * grey] * len(channels)
        return [
            tf.clip_by_value(scale * x + offset, 0.0, 1.0)
            for x, offset in zip(channels, offsets, strict=True)
        ]

    def get_config(self):
        return {
            **super().get_config(),
            **self._strengths(),
            "semantics": self.semantics,
        }


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class Grayscale(ImageAugmentation):
    """Replaces every channel by 0.2989 R + 0.5870 G + 0.1140 B.

    If the number of channels is not 3, the mean of the channels is used.

    Source: deepmind-research byol; OpenCV's and PIL's weights differ by under 2e-4.
    """

    def augment(self, images, uniforms):
        channels = _channels(images)
        return tf.stack([_grey(channels)] * len(channels), axis=-1)

    def augment_arrays(self, planes, uniforms, chosen):
        kernels.gray(planes, chosen, _gray_weights(planes.shape[1]))


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class Solarize(ImageAugmentation):
    """Inverts the pixels of at least `threshold`.

    Args:
        threshold: float in 0..1. Defaults to 0.5; mmselfsup 0.x uses 128 / 255.

    Source: arXiv 2006.07733 appendix B.
    """

    def __init__(self, threshold=0.5, **kwargs):
        super().__init__(**kwargs)
        require(0.0 <= threshold <= 1.0, "threshold must be in 0..1", threshold)
        self.threshold = threshold

    def augment(self, images, uniforms):
        return tf.where(images < self.threshold, images, 1.0 - images)

    def augment_arrays(self, planes, uniforms, chosen):
        kernels.solarize(planes, chosen, np.float32(self.threshold))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class Lighting(ImageAugmentation):
    """Shifts the colour of an image along the principal components of ImageNet.

    The shift is the sum, over the three components, of `alpha * reach * component`
    with alpha normal around 0. Images whose number of channels is not 3 do not change.

    Args:
        alpha_std: float. Standard deviation of alpha, at least 0.

    Raises:
        ValueError: if `alpha_std` is negative.

    Source: AlexNet (Krizhevsky et al. 2012), section 4.1; mmselfsup 0.x.
    Deviation: the result is clipped to 0..1; mmselfsup 0.x does not clip it.
    """

    draws = 3

    def __init__(self, alpha_std=0.1, **kwargs):
        super().__init__(**kwargs)
        require(alpha_std >= 0.0, "alpha_std must be at least 0", alpha_std)
        self.alpha_std = alpha_std

    def augment(self, images, uniforms):
        if len(_channels(images)) != 3:
            return tf.convert_to_tensor(images)
        uniforms = tf.clip_by_value(uniforms, _LEAST, 1.0 - _LEAST)
        alphas = self.alpha_std * tf.math.ndtri(uniforms)
        shifts = tf.matmul(alphas * _REACH, _COMPONENTS, transpose_b=True)
        return tf.clip_by_value(images + shifts[:, None, None, :], 0.0, 1.0)

    def augment_arrays(self, planes, uniforms, chosen):
        if planes.shape[1] == 3:
            uniforms = np.clip(uniforms, _LEAST, 1.0 - _LEAST).astype(float)
            alphas = self.alpha_std * np.vectorize(NormalDist().inv_cdf)(uniforms)
            shifts = (alphas * _REACH) @ np.transpose(_COMPONENTS)
            kernels.shift_channels(planes, chosen, shifts.astype(np.float32))

    def get_config(self):
        return {**super().get_config(), "alpha_std": self.alpha_std}


def _steps(linear: list, hsv: list, shifts: dict, places: dict) -> Iterator:
    """A fixed sequence of steps that contains the order of every image.

    A branch per image and operation would need dynamic shapes. Instead, every HSV
    operation, the expensive kind, has one step, with steps for the linear ones before,
    between and after. In the steps of other orders, the shift of an image is 0, the
    identity.

    Args:
        linear, hsv: names of operations.
        shifts, places: by name, `[B]`: shift, and place in the image's order.

    Yields:
        `linear` or `hsv`, and the shifts `[B, 1, 1]` of its operations in this step.
    """

    def earlier(name, group):
        return sum(tf.cast(places[n] < places[name], tf.int32) for n in group)

    stride = len(linear) + 1
    turns = {n: stride * earlier(n, hsv) + earlier(n, linear) for n in linear}
    turns |= {n: stride * earlier(n, hsv) + len(linear) for n in hsv}
    for step in range(stride * (len(hsv) + 1) - 1):
        group = hsv if step % stride == len(linear) else linear
        now = {n: tf.where(turns[n] == step, shifts[n], 0.0) for n in group}
        yield group, {n: shift[:, None, None] for n, shift in now.items()}


def _shift_hsv(channels: list, saturation=0.0, hue=0.0) -> list:
    """Scales S of HSV by `1 + saturation` and turns H by `hue`, plane by plane.

    Equals `tf.image.rgb_to_hsv` and back, at a fraction of the cost.
    """
    red, green, blue = channels
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # The hue in sixths of a turn: 0 red, 2 green, 4 blue.
    not_red, not_green = red < value, green < value
    distance = tf.where(
        not_red, tf.where(not_green, red - green, blue - red), green - blue
    )
    start = tf.where(not_red, tf.where(not_green, 4.0, 2.0), 0.0)
    sixths = distance / tf.maximum(chroma, kernels.TINY) + start + 6.0 * hue
    sixths -= 6.0 * tf.floor(sixths * (1.0 / 6.0))  # `floormod` is many times slower
    chroma = tf.minimum(chroma * (1.0 + saturation), value)
    shares = (
        tf.abs(sixths - 3.0) - 1.0,
        2.0 - tf.abs(sixths - 2.0),
        2.0 - tf.abs(sixths - 4.0),
    )
    least = value - chroma
    return [least + chroma * tf.clip_by_value(share, 0.0, 1.0) for share in shares]


def _gray_weights(channels: int) -> np.ndarray:
    """float32 `[C]`: weight of each channel in the grey image."""
    if channels == 3:
        return np.array([0.2989, 0.5870, 0.1140], np.float32)
    return np.full(channels, 1.0 / channels, np.float32)


def _grey(channels: list) -> tf.Tensor:
    """`[B, H, W]`: the grey image of a list of `C` planes."""
    weights = _gray_weights(len(channels))
    return tf.add_n([w * x for w, x in zip(weights, channels, strict=True)])


def _mean(plane: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(plane, axis=(1, 2), keepdims=True)


def _channels(images: tf.Tensor) -> list:
    """`[B, H, W, C]` as `C` planes `[B, H, W]`, the fastest layout for arithmetic."""
    require(
        images.shape[-1] is not None,
        "images must have a known number of channels",
        images.shape,
    )
    return tf.unstack(images, axis=-1)
