"""Measures on pixels what each operation of a view does to a batch of images."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from byol_keras.preview.describe import force_applied, name_of, rate_of
from byol_keras.views.augmentations import ImageAugmentation, RandomApply, is_stateless
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.crops import RandomResizedCrop

# A change below half a step of 8 bits is not visible.
VISIBLE = 0.5 / 255
# A share is wrong if chance gives one that is as far off with this probability.
RARE = 1e-4
# Copies of an image that show whether a layer draws for each image.
_COPIES = 16


class Effect(NamedTuple):
    """What one operation did to the images of a batch.

    Args:
        view, name: str. "view1" or "view2", and the operation.
        rate: float. The configured probability that it is applied to an image.
        images: int. Size of the batch.
        changeable: int. Images that the operation changes when it is applied to all.
        changed: int. Images that it changed with the random draws of the batch.
        least, most: floats. Expected range of `changed / changeable`.
        finding: str or None. What is wrong.
    """

    view: str
    name: str
    rate: float
    images: int
    changeable: int
    changed: int
    least: float
    most: float
    finding: str | None

    @property
    def share(self) -> float:
        """`changed` of `changeable`; 0 where nothing can be changed."""
        return self.changed / self.changeable if self.changeable else 0.0


def measure_effects(
    name: str, view: AugmentedView, images: Iterable[np.ndarray], uniforms: np.ndarray
) -> tuple[np.ndarray, list[Effect]]:
    """Applies a view's operations one by one.

    Args:
        name: str. Of the view.
        view: the layers are its operations.
        images: iterable of `n`, float32 `[h, w, C]` in 0..1, of one size unless the
            first layer is `RandomResizedCrop`. It is read once and not kept.
        uniforms: float32 `[n, draws]`: the random draws of each image.

    Returns:
        The views, float32 `[n, S, S, C]`, and an `Effect` for each layer.
    """
    effects, start = [], 0
    for layer in view.layers:
        draws = layer.draws if isinstance(layer, ImageAugmentation) else 0
        own = uniforms[:, start : start + draws]
        start += draws
        if start == draws and isinstance(layer, RandomResizedCrop):
            before, images, first = _cropped(layer, images, own)
            forced = images
        else:
            before = np.stack([*images])
            first, images = before[0], _apply(layer, before, own)
            forced = _apply(layer, before, force_applied(layer, own))
        changed = _differ(before, images)
        # A layer of another library makes new draws in each call.
        changeable = changed | _differ(before, forced)
        counts = int(changeable.sum()), int(changed.sum())
        together = _is_same_for_all(layer, first, own)
        effects.append(_effect(name, layer, len(images), counts, together))
    return np.clip(images, 0.0, 1.0), effects


def tolerance(count: int, rate: float) -> tuple[float, float]:
    """The range of the share of `count` images that a rate changes by chance.

    Fewer than `RARE` of all cases are outside of the range.
    """
    weights = [
        math.comb(count, k) * rate**k * (1.0 - rate) ** (count - k)
        for k in range(count + 1)
    ]
    below, above = np.cumsum(weights), np.cumsum(weights[::-1])[::-1]
    likely = np.flatnonzero((below >= RARE / 2) & (above >= RARE / 2))
    return likely[0] / max(count, 1), likely[-1] / max(count, 1)


def _effect(view, layer, images, counts, together):
    changeable, changed = counts
    rate = rate_of(layer)
    least, most = (0.0, 1.0)
    if is_stateless(layer) or isinstance(layer, RandomApply):
        least, most = tolerance(changeable, rate)
    finding = None
    if not changeable or not changed:
        finding = "changes no image"
    elif not least <= changed / changeable <= most:
        finding = (
            f"changes {changed / changeable:.3f} of the images that it can change, "
            f"not {least:.3f} to {most:.3f}"
        )
    elif together:
        finding = "draws once for all images of a batch"
    counted = (images, changeable, changed)
    return Effect(view, name_of(layer), rate, *counted, least, most, finding)


def _cropped(layer, images, uniforms):
    """Resized whole images, randomly cropped ones, and the first original."""
    whole, crops, first = [], [], None
    for image, own in zip(images, uniforms, strict=True):
        first = image if first is None else first
        whole.append(layer.resize(image))
        crops.append(layer.augment(image[None], own[None])[0])
    return np.stack(whole), np.stack(crops), first


def _apply(layer, images, uniforms):
    if isinstance(layer, ImageAugmentation):
        return np.asarray(layer.augment(images, uniforms))
    return np.asarray(layer(images, training=True))


def _differ(before, after):
    """bool `[n]`: whether each image has changed. A new size is a change of all."""
    if before.shape != after.shape:
        return np.ones(len(after), bool)
    return np.abs(after - before).max(axis=(1, 2, 3)) > VISIBLE


def _is_same_for_all(layer, image, uniforms):
    """Whether all copies of an image have the same result where they should not."""
    count, rate = _COPIES, rate_of(layer)
    if 0.0 < rate < 1.0:
        # Enough copies that chance hardly ever changes all or none of them.
        count = math.ceil(math.log(RARE / 2) / math.log(max(rate, 1.0 - rate)))
    uniforms = uniforms[:count]
    copies = np.repeat(image[None], len(uniforms), axis=0)
    results = _apply(layer, copies, uniforms)
    if (np.abs(results - results[:1]) > VISIBLE).any():
        return False
    if not is_stateless(layer):  # same result twice: it makes no random draws
        return bool(_differ(results, _apply(layer, copies, uniforms)).any())
    if rate in (0.0, 1.0) or len(uniforms) < count:
        return False
    forced = _apply(layer, copies[:1], force_applied(layer, uniforms[:1]))
    return bool(_differ(copies[:1], forced).all())
