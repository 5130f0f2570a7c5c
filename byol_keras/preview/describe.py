"""What augmentation layers do to one image by its draws, in a few words."""

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
def told(layer: keras.layers.Layer, uniforms: np.ndarray, shape: tuple) -> str | None:
    """What a layer does to an image, as "blur 0.83"; None if it leaves it as it is.

    Args:
        layer: of a view. One that is not known here, or draws for itself, is named.
        uniforms: float32 `[draws]`: what the layer draws for this image.
        shape: height, width and channels of the image.
    """
    return type(layer).__name__


@told.register
def _(layer: RandomApply, uniforms, shape):
    return told(layer.layer, uniforms[1:], shape) if is_drawn(layer, uniforms) else None


@told.register
def _(layer: RandomHorizontalFlip, uniforms, shape):
    return "left to right" if is_drawn(layer, uniforms) else None


@told.register
def _(layer: RandomVerticalFlip, uniforms, shape):
    return "upside down" if is_drawn(layer, uniforms) else None


@told.register
def _(layer: RandomResizedCrop, uniforms, shape):
    _, _, height, width = box_of(layer, uniforms, shape)
    return f"crop {100 * height * width / (shape[0] * shape[1]):.0f} %"


@told.register
def _(layer: RandomCrop, uniforms, shape):
    return "crop {} x {}".format(*layer.height_width)


@told.register
def _(layer: ColorJitter, uniforms, shape):
    shifts = layer.shifts(uniforms, shape[2])
    return ", ".join(f"{name} {shift:+.2f}" for name, shift in shifts) or None


@told.register
def _(layer: GaussianBlur, uniforms, shape):
    low, high = layer.sigma
    return f"blur {low + uniforms[0] * (high - low):.2f}"


@told.register
def _(layer: Grayscale, uniforms, shape):
    return "grey"


@told.register
def _(layer: Solarize, uniforms, shape):
    return f"solarize {layer.threshold:.2f}"


def told_of_view(layers: Sequence, uniforms: np.ndarray, shape: tuple) -> list[str]:
    """What the layers of a view do to an image, one after the other.

    Args:
        layers: of a view.
        uniforms: float32 `[draws]`: what all of them draw for this image.
        shape: height, width and channels of the image.
    """
    lines, start = [], 0
    for layer in layers:
        draws = layer.draws if isinstance(layer, ImageAugmentation) else 0
        lines.append(told(layer, uniforms[start : start + draws], shape))
        start += draws
    return [line for line in lines if line]


def rate_of(layer: keras.layers.Layer) -> float:
    """The probability that a layer is applied to an image, as it is configured."""
    return layer.rate if isinstance(layer, (RandomApply, *_FLIPS)) else 1.0


def is_drawn(layer: keras.layers.Layer, uniforms: np.ndarray) -> bool:
    """Whether an image's draws, float32 `[draws]`, have the layer applied to it."""
    return not isinstance(layer, (RandomApply, *_FLIPS)) or uniforms[0] < layer.rate


def applied(layer: keras.layers.Layer, uniforms: np.ndarray) -> np.ndarray:
    """Draws `[n, draws]` changed so that the layer is applied to every image."""
    uniforms = uniforms.copy()
    if isinstance(layer, (RandomApply, *_FLIPS)):
        uniforms[:, 0] = 0.0
    return uniforms


def name_of(layer: keras.layers.Layer) -> str:
    """A layer's class; of one that is applied at random, the inner one's."""
    return type(layer.layer if isinstance(layer, RandomApply) else layer).__name__


def box_of(layer: RandomResizedCrop, uniforms: np.ndarray, shape: tuple) -> tuple:
    """Top, left, height and width, ints, of the crop that is drawn for an image."""
    return tuple(layer.boxes(*shape[:2], uniforms[None]).numpy()[0].tolist())
