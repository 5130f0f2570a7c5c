"""Checks of the two views, alone and together with the data."""

import logging
from collections.abc import Iterator
from typing import Any

from byol_keras.data import ImageData
from byol_keras.runtime.errors import Findings
from byol_keras.views.augmentations import RandomApply
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale
from byol_keras.views.crops import RandomCrop

# Larger views do not fit on an accelerator in batches; a larger magnification only
# repeats the stored pixels.
LARGEST_VIEW = 2048
LARGEST_MAGNIFICATION = 8


class _Layers:
    """The layers of the views by name, and the sizes of the views.

    Args:
        views: `TwoViews`; any other function of views has no known layers.
        data: `ImageData`, or None if the data are not known yet.
    """

    def __init__(self, views: Any, data: ImageData | None = None):
        self.data = data
        names = ("view1", "view2")
        if not all(hasattr(views, name) for name in names):
            names = ()
        self.of = {
            name: [
                layer.layer if isinstance(layer, RandomApply) else layer
                for layer in getattr(views, name).layers
            ]
            for name in names
        }

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width of a view; None if they are not known."""
        sizes = [getattr(layer, "height_width", None) for layer in self.of[name]]
        known = [size for size in sizes if size]
        return known[-1] if known else self.data and self.data.image_size


def view_mistakes(views: Any) -> list[str]:
    """Messages on mistakes in the views that show without the data."""
    layers = _Layers(views)
    return [line for rule in _RULES for line in rule(layers)]


def check_data(views: Any, data: ImageData) -> None:
    """Checks the views against the data, and warns of layers without effect.

    Raises:
        Mistakes: with a message for each mistake.
    """
    layers = _Layers(views, data)
    found = [*_crops_of_any_size(views, layers)]
    found += [line for rule in _RULES_WITH_DATA for line in rule(layers)]
    Findings(found).raise_all()
    for line in _without_effect(layers):
        logging.getLogger("byol_keras").warning(line)


def _same_size(layers: _Layers) -> Iterator[str]:
    sizes = {name: layers.size(name) for name in layers.of}
    if len(set(sizes.values())) > 1 and None not in sizes.values():
        yield f"view1 and view2 must have the same size. Received: {sizes}"


def _blur_within_view(layers: _Layers) -> Iterator[str]:
    for name, own in layers.of.items():
        size = layers.size(name)
        for layer in own:
            radius = layer.radius if isinstance(layer, GaussianBlur) else None
            if radius and size and 2 * radius + 1 > min(size):
                yield (
                    "GaussianBlur.radius must give a kernel of 2 * radius + 1 pixels "
                    f"within {name} of {size}. Received: {radius}"
                )


def _views_of_a_size(layers: _Layers) -> Iterator[str]:
    for name in layers.of:
        size = layers.size(name)
        if size and max(size) > LARGEST_VIEW:
            rule = f"{name} must be at most {LARGEST_VIEW} pixels wide and high"
            yield f"{rule}. Received: {size}"


def _crops_of_any_size(views: Any, layers: _Layers) -> Iterator[str]:
    if layers.data.image_size is None:
        for name in layers.of:
            findings = Findings()
            with findings.noted():
                getattr(views, name).require_crop(name)
            yield from findings.lines


def _crops_within_images(layers: _Layers) -> Iterator[str]:
    stored = layers.data.image_size
    for name, own in layers.of.items():
        size = layers.size(name)
        if not (stored and size):
            continue
        if isinstance(own[0], RandomCrop) and (
            size[0] > stored[0] or size[1] > stored[1]
        ):
            yield f"RandomCrop.size must be within images of {stored}. Received: {size}"
        elif max(size) > LARGEST_MAGNIFICATION * max(stored):
            rule = f"{name} must be at most {LARGEST_MAGNIFICATION} times the images"
            yield f"{rule} of {stored}. Received: {size}"


def _without_effect(layers: _Layers) -> Iterator[str]:
    channels = layers.data.channels
    if channels == 3:
        return
    found = [layer for own in layers.of.values() for layer in own]
    if channels == 1 and any(isinstance(layer, Grayscale) for layer in found):
        yield "Grayscale does nothing to images of 1 channel"
    jitters = [layer for layer in found if isinstance(layer, ColorJitter)]
    if any(layer.saturation or layer.hue for layer in jitters):
        yield (
            "ColorJitter.saturation and ColorJitter.hue do nothing to images of "
            f"{channels} channels"
        )


_RULES = (_same_size, _blur_within_view, _views_of_a_size)
_RULES_WITH_DATA = (_crops_within_images, _blur_within_view)
