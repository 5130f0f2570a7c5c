"""Rules for views, alone and together with the data."""

from typing import Any, NamedTuple

import keras
from absl import logging

from byol_keras.data.image_data import ImageData
from byol_keras.runtime.errors import Findings
from byol_keras.views.augmentations import RandomApply
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale
from byol_keras.views.crops import RandomCrop

# A batch of larger views fits no accelerator, and a larger magnification shows only
# the pixels of the stored image.
LARGEST_VIEW = 2048
LARGEST_MAGNIFICATION = 8


class Plan(NamedTuple):
    """What a run will be made of; None for what is not known or could not be made."""

    views: Any = None
    optimizer: keras.optimizers.Optimizer | None = None
    rates: list[float] | None = None
    data: ImageData | None = None

    @property
    def lists(self) -> dict[str, tuple]:
        """The layers of the views, with those that `RandomApply` holds, by name."""
        if not (hasattr(self.views, "view1") and hasattr(self.views, "view2")):
            return {}
        lists = {"view1": self.views.view1.layers, "view2": self.views.view2.layers}
        return {
            name: [x.layer if isinstance(x, RandomApply) else x for x in layers]
            for name, layers in lists.items()
        }

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width of a view."""
        sizes = [getattr(layer, "height_width", None) for layer in self.lists[name]]
        known = [size for size in sizes if size]
        return known[-1] if known else self.data and self.data.image_size


def check_data(views: Any, data: ImageData) -> None:
    """Checks the views against the data; warns of what has no effect.

    Raises:
        Mistakes: all that are found.
    """
    plan = Plan(views=views, data=data)
    Findings([line for rule in RULES_WITH_DATA for line in rule(plan)]).raise_all()
    for line in _without_effect(plan):
        logging.warning(line)


def _same_size(plan):
    sizes = {name: plan.size(name) for name in plan.lists}
    if len(set(sizes.values())) > 1 and None not in sizes.values():
        yield f"view1 and view2 must have the same size. Received: {sizes}"


def _blur_within_view(plan):
    for name, layers in plan.lists.items():
        size = plan.size(name)
        for layer in layers:
            radius = layer.radius if isinstance(layer, GaussianBlur) else None
            if radius and size and 2 * radius + 1 > min(size):
                yield (
                    "GaussianBlur.radius must give a kernel of 2 * radius + 1 pixels "
                    f"within {name} of {size}. Received: {radius}"
                )


def _views_of_a_size(plan):
    for name in plan.lists:
        size = plan.size(name)
        if size and max(size) > LARGEST_VIEW:
            rule = f"{name} must be at most {LARGEST_VIEW} pixels wide and high"
            yield f"{rule}. Received: {size}"


def _crops_of_any_size(plan):
    if plan.data.image_size is None:
        for name in plan.lists:
            findings = Findings()
            with findings.noted():
                getattr(plan.views, name).require_crop(name)
            yield from findings.lines


def _crops_within_images(plan):
    stored = plan.data.image_size
    for name, layers in plan.lists.items():
        size = plan.size(name)
        if not (stored and size):
            continue
        if isinstance(layers[0], RandomCrop) and (
            size[0] > stored[0] or size[1] > stored[1]
        ):
            yield f"RandomCrop.size must be within images of {stored}. Received: {size}"
        elif max(size) > LARGEST_MAGNIFICATION * max(stored):
            rule = f"{name} must be at most {LARGEST_MAGNIFICATION} times the images"
            yield f"{rule} of {stored}. Received: {size}"


def _without_effect(plan):
    channels = plan.data.channels
    if channels == 3:
        return
    layers = [layer for layers in plan.lists.values() for layer in layers]
    if channels == 1 and any(isinstance(layer, Grayscale) for layer in layers):
        yield "Grayscale does nothing to images of 1 channel"
    jitters = [layer for layer in layers if isinstance(layer, ColorJitter)]
    if any(layer.saturation or layer.hue for layer in jitters):
        yield (
            "ColorJitter.saturation and ColorJitter.hue do nothing to images of "
            f"{channels} channels"
        )


RULES_WITH_DATA = (_crops_of_any_size, _crops_within_images, _blur_within_view)
