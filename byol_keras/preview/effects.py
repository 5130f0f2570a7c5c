"""What every operation of a view does to a batch of images, measured on its pixels."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from byol_keras.preview.describe import applied, name_of, rate_of
from byol_keras.views.augmentations import ImageAugmentation, RandomApply, is_stateless
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.crops import RandomResizedCrop

# Less than half a step of 8 bits is no change that anybody sees.
VISIBLE = 0.5 / 255
# A share is off if chance alone gives one as far off so rarely.
RARE = 1e-4
# So many copies of an image tell whether a layer draws for each of them.
_COPIES = 16


class Effect(NamedTuple):
    """What one operation did.

    Args:
        view, name: str. "view1" or "view2", and the operation.
        rate: float. The configured probability that it is applied to an image.
        images: int. So many were given to it.
        changeable: int. So many of them it changes if it is applied.
        changed: int. So many it has changed.
        least, most: floats. The share of `changed` in `changeable` is to be within.
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
        view: whose layers take part.
        images: `n` of them, float32 `[h, w, C]` in 0..1, of one size unless the first
            layer is `RandomResizedCrop`. They are gone through once, and not kept.
        uniforms: float32 `[n, draws]`: the draws of each.

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
            forced = _apply(layer, before, applied(layer, own))
        changed = _differ(before, images)
        # A layer that draws for itself has drawn anew.
        changeable = changed | _differ(before, forced)
        counts = int(changeable.sum()), int(changed.sum())
        together = _draws_for_all(layer, first, own)
        effects.append(_effect(name, layer, len(images), counts, together))
    return np.clip(images, 0.0, 1.0), effects


def tolerance(count: int, rate: float) -> tuple[float, float]:
    """Least and greatest share of `count` draws that chance gives at a rate.

    Beyond either of them lie fewer than `RARE` of all cases.
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
    """Images resized whole, and cropped as they are drawn; and the first image."""
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
    """bool `[n]`: whether images have changed; all have if their size has."""
    if before.shape != after.shape:
        return np.ones(len(after), bool)
    return np.abs(after - before).max(axis=(1, 2, 3)) > VISIBLE


def _draws_for_all(layer, image, uniforms):
    """Whether all copies of an image come out alike where they should not."""
    count, rate = _COPIES, rate_of(layer)
    if 0.0 < rate < 1.0:
        # So many that by chance hardly all or none of them are changed.
        count = math.ceil(math.log(RARE / 2) / math.log(max(rate, 1.0 - rate)))
    uniforms = uniforms[:count]
    copies = np.repeat(image[None], len(uniforms), axis=0)
    results = _apply(layer, copies, uniforms)
    if (np.abs(results - results[:1]) > VISIBLE).any():
        return False
    if not is_stateless(layer):  # does it draw at all?
        return bool(_differ(results, _apply(layer, copies, uniforms)).any())
    if rate in (0.0, 1.0) or len(uniforms) < count:
        return False
    forced = _apply(layer, copies[:1], applied(layer, uniforms[:1]))
    return bool(_differ(copies[:1], forced).all())
