"""Describes in a few words what augmentation layers do to one image."""

import functools
from collections.abc import Sequence

import keras
import numpy as np

from byol_keras.views.augmentations import (
    ImageAugmentation,
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomCrop, RandomResizedCrop

_FLIPS = (RandomHorizontalFlip, RandomVerticalFlip)


@functools.singledispatch
def describe(
    layer: keras.layers.Layer, uniforms: np.ndarray, shape: tuple
) -> str | None:
    """What a layer does to an image, such as "blur 0.83"; None if nothing.

    Args:
        layer: of a view. The description of a layer of another library is its name.
        uniforms: float32 `[draws]`: the layer's random draws for this image.
        shape: height, width and channels of the image.
    """
    return type(layer).__name__


@describe.register
def _(layer: RandomApply, uniforms, shape):
    if not is_applied(layer, uniforms):
        return None
    return describe(layer.layer, uniforms[1:], shape)


@describe.register
def _(layer: RandomHorizontalFlip, uniforms, shape):
    return "left to right" if is_applied(layer, uniforms) else None


@describe.register
def _(layer: RandomVerticalFlip, uniforms, shape):
    return "upside down" if is_applied(layer, uniforms) else None


@describe.register
def _(layer: RandomResizedCrop, uniforms, shape):
    _, _, height, width = box_of(layer, uniforms, shape)
    return f"crop {100 * height * width / (shape[0] * shape[1]):.0f} %"


@describe.register
def _(layer: RandomCrop, uniforms, shape):
    return "crop {} x {}".format(*layer.height_width)


@describe.register
def _(layer: ColorJitter, uniforms, shape):
    shifts = layer.shifts(uniforms, shape[2])
    return ", ".join(f"{name} {shift:+.2f}" for name, shift in shifts) or None


@describe.register
def _(layer: GaussianBlur, uniforms, shape):
    low, high = layer.sigma
    return f"blur {low + uniforms[0] * (high - low):.2f}"


@describe.register
def _(layer: Grayscale, uniforms, shape):
    return "grey"


@describe.register
def _(layer: Solarize, uniforms, shape):
    return f"solarize {layer.threshold:.2f}"


def describe_view(layers: Sequence, uniforms: np.ndarray, shape: tuple) -> list[str]:
    """What the layers of a view do to an image, one after the other.

    Args:
        layers: of a view.
        uniforms: float32 `[draws]`: the random draws of all layers for this image.
        shape: height, width and channels of the image.
    """
    lines, start = [], 0
    for layer in layers:
        draws = layer.draws if isinstance(layer, ImageAugmentation) else 0
        lines.append(describe(layer, uniforms[start : start + draws], shape))
        start += draws
    return [line for line in lines if line]


def rate_of(layer: keras.layers.Layer) -> float:
    """The configured probability that a layer is applied to an image."""
    return layer.rate if isinstance(layer, (RandomApply, *_FLIPS)) else 1.0


def is_applied(layer: keras.layers.Layer, uniforms: np.ndarray) -> bool:
    """Whether a layer is applied to the image with these draws, float32 `[draws]`."""
    return not isinstance(layer, (RandomApply, *_FLIPS)) or uniforms[0] < layer.rate


def force_applied(layer: keras.layers.Layer, uniforms: np.ndarray) -> np.ndarray:
    """A copy of the draws `[n, draws]` with which the layer changes every image."""
    uniforms = uniforms.copy()
    if isinstance(layer, (RandomApply, *_FLIPS)):
        uniforms[:, 0] = 0.0
    return uniforms


def name_of(layer: keras.layers.Layer) -> str:
    """The name of a layer's class; for `RandomApply`, that of its inner layer."""
    return type(layer.layer if isinstance(layer, RandomApply) else layer).__name__


def box_of(layer: RandomResizedCrop, uniforms: np.ndarray, shape: tuple) -> tuple:
    """Top, left, height and width, ints, of the random crop of an image."""
    return tuple(layer.boxes(*shape[:2], uniforms[None]).numpy()[0].tolist())
