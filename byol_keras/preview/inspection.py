"""Makes the views of the first images of a run, and checks them."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.preview import describe
from byol_keras.preview.contact_sheet import Sample
from byol_keras.preview.effects import VISIBLE, Effect, measure_effects
from byol_keras.views import TwoViews, checks
from byol_keras.views.crops import RandomResizedCrop
from byol_keras.views.pipeline import uniforms_of

# Longest side of an original on the sheet.
_SHOWN_PIXELS = 256
# The compiled loops of the pipeline may differ from the layers by this much, and by
# more in this share of the values: those at the threshold of an operation.
_AGREE, _MAY_DIFFER = 2.5 / 255, 1e-3
# Flips alone leave half of the images with two equal views.
_MOST_EQUAL = 0.9


class Preview(NamedTuple):
    """The views of the first images of a run, and what was measured on them.

    Args:
        data_name: str. Of the images.
        samples: rows of the contact sheet.
        effects: one for each operation of both views.
        numbers: further measurements, for JSON.
        findings: one line for each thing that is wrong.
    """

    data_name: str
    samples: list[Sample]
    effects: list[Effect]
    numbers: dict[str, Any]
    findings: list[str]


def inspect_views(data, two_views: TwoViews, seed: int, images: int, rows: int):
    """Measures the views of the first images of a run.

    Args:
        data: `data.ImageData`.
        two_views: `views.TwoViews`.
        seed: int. Of the run.
        images: int. How many images to measure, in the order and with the random draws
            of the run.
        rows: int. How many of them to keep as samples.

    Returns:
        A `Preview`.

    Raises:
        ValueError: if the views do not fit the data.
    """
    checks.check_data(two_views, data)
    elements = data.stream(seed).take(images)
    uniforms = np.stack([uniforms_of(e, seed, two_views.draws) for e in elements])
    made, effects = {}, []
    parts = zip(_by_name(two_views).items(), _split(two_views, uniforms), strict=True)
    for (name, view), own in parts:
        originals = (_decoded(data, element) for element in elements)
        made[name], found = measure_effects(name, view, originals, own)
        effects += found
    trained = _as_trained(two_views, data, images, seed)
    numbers = {
        "value_range": {name: _value_range(x) for name, x in trained.items()},
        "independence": _independence(uniforms, trained),
        "agreement": _agreement(made, trained) if two_views.stateless else None,
    }
    samples = [
        _sample(two_views, _decoded(data, element), own, trained, place)
        for place, (element, own) in enumerate(
            zip(elements.take(rows), uniforms, strict=False)
        )
    ]
    findings = [f"{e.view}: {e.name} {e.finding}" for e in effects if e.finding]
    findings += find_flaws(numbers)
    return Preview(data.name, samples, effects, numbers, findings)


def for_json(found: Preview) -> dict[str, Any]:
    """The measurements of a preview, for JSON."""
    operations = [e._asdict() | {"share": e.share} for e in found.effects]
    return {
        "data": found.data_name,
        "operations": operations,
        **found.numbers,
        "findings": found.findings,
    }


def find_flaws(numbers: dict[str, Any]) -> list[str]:
    """One line for each measurement of both views that is out of bounds.

    Args:
        numbers: see `Preview`.
    """
    lines = []
    for name, found in numbers["value_range"].items():
        if not found["finite"] or found["least"] < 0.0 or found["most"] > 1.0:
            lines.append(
                f"{name}: values must be finite and in 0..1. "
                f"Received: {found['least']} to {found['most']}"
            )
    found = numbers["independence"]
    if found["images_with_draws_of_their_own"] < found["images"]:
        lines.append("images of one batch share draws")
    if found["images_with_equal_views"] > _MOST_EQUAL * found["images"]:
        lines.append("the two views of most images are equal")
    for name, share in (numbers["agreement"] or {}).items():
        if share < 1.0 - _MAY_DIFFER:
            lines.append(f"{name}: the input pipeline differs from the layers")
    return lines


def _by_name(two_views):
    return {"view1": two_views.view1, "view2": two_views.view2}


def _split(two_views, uniforms):
    return np.split(uniforms, [two_views.view1.draws], axis=-1)


def _decoded(data, element):
    return to_float(data.decode(element["image"])).numpy()


def _as_trained(two_views, data, images, seed):
    """The views of the first images by name, from the run's own input pipeline."""
    batches = two_views.dataset(data, images, seed)
    if two_views.place == "device":
        batches = batches.map(two_views.on_device)
    pair = next(iter(batches))
    return dict(zip(_by_name(two_views), (x.numpy() for x in pair), strict=True))


def _value_range(views):
    return {
        "least": float(views.min()),
        "most": float(views.max()),
        "mean": float(views.mean()),
        "share_at_0": float((views <= 0.0).mean()),
        "share_at_1": float((views >= 1.0).mean()),
        "finite": bool(np.isfinite(views).all()),
    }


def _independence(uniforms, trained):
    """Whether images share draws, and how far views of one and of two images differ."""
    view1, view2 = trained.values()
    own = np.abs(view1 - view2).mean(axis=(1, 2, 3))
    others = np.abs(view1 - np.roll(view2, 1, axis=0)).mean(axis=(1, 2, 3))
    # The draws of stock layers are not visible here.
    distinct = len(np.unique(uniforms, axis=0)) if uniforms.shape[1] else len(uniforms)
    return {
        "images": len(uniforms),
        "images_with_draws_of_their_own": distinct,
        "images_with_equal_views": int((own <= VISIBLE / 100).sum()),
        "difference_between_views_of_an_image": float(own.mean()),
        "difference_between_views_of_two_images": float(others.mean()),
    }


def _agreement(made, trained):
    """Share of values in which the input pipeline and the layers agree, by view."""
    return {
        name: float((np.abs(made[name] - trained[name]) <= _AGREE).mean())
        for name in trained
    }


def _sample(two_views, image, uniforms, trained, place):
    captions, boxes = {}, {}
    parts = zip(_by_name(two_views).items(), _split(two_views, uniforms), strict=True)
    for (name, view), own in parts:
        captions[name] = describe.describe_view(view.layers, own, image.shape)
        first = view.layers[0]
        if isinstance(first, RandomResizedCrop):
            box = describe.box_of(first, own[: first.draws], image.shape)
            boxes[name] = tuple(np.array(box) / (image.shape[:2] * 2))
    views = {name: x[place] for name, x in trained.items()}
    return Sample(_shrunk(image), views, captions, boxes)


def _shrunk(image):
    ratio = _SHOWN_PIXELS / max(image.shape[:2])
    if ratio >= 1.0:
        return image
    size = [max(1, round(n * ratio)) for n in image.shape[:2]]
    return tf.image.resize(image, size, "area").numpy()
