"""Shows what a recipe's augmentations do to its images, and measures it.

    python -m byol_keras.preview --gin_file=FILE [--gin_param=...] --out=FILE.png

The picture has originals, both views and the draws that made them. Exit code 0 if every
operation does what is configured, 1 if one does not, 2 for a user's mistake.
"""

import json
import pathlib
import sys
from typing import Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf
from absl import app, flags
from rich.console import Console
from rich.table import Table

from byol_keras import gin_names  # noqa: F401
from byol_keras.config import parse
from byol_keras.preview import (
    contact_sheet,
    describe,
)
from byol_keras.preview.contact_sheet import Sample
from byol_keras.preview.effects import VISIBLE, Effect, measure_effects
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.views import TwoViews, checks
from byol_keras.views.augmented_view import uniforms_of
from byol_keras.views.crops import RandomResizedCrop

EXIT_FINDINGS = 1
# The originals of the sheet are no larger.
_SHOWN_PIXELS = 256
# The pipeline's compiled loops may differ by so much from the layers, and in so many
# values, as those at the threshold of an operation.
_AGREE, _MAY_DIFFER = 2.5 / 255, 1e-3
# Flips alone leave half of the images with two equal views.
_MOST_EQUAL = 0.9


class Preview(NamedTuple):
    """What the first images of a run become.

    Args:
        samples: rows for `contact_sheet.draw`.
        effects: of every operation of both views.
        numbers: further ones, for JSON.
        findings: lines on what is wrong.
    """

    samples: list[Sample]
    effects: list[Effect]
    numbers: dict[str, Any]
    findings: list[str]


def preview(
    images: int,
    rows: int,
    *,
    dataset_fn=gin.REQUIRED,
    views_fn=gin.REQUIRED,
    seed: int = 0,
    **of_training,
) -> tuple[str, Preview]:
    """Makes the views of the first images of a run, and looks at them.

    Args:
        images: int. So many are measured, in the run's own order with its own draws.
        rows: int. So many are kept to be shown.
        dataset_fn, views_fn, seed: as of `train.train`.
        of_training: its other arguments, which views do not depend on.

    Returns:
        The name of the data, and a `Preview`.

    Raises:
        ValueError: if the views do not fit the data.
    """
    source, two_views = dataset_fn(), views_fn()
    checks.check_data(two_views, source)
    elements = source.stream(seed).take(images)
    uniforms = np.stack([uniforms_of(e, seed, two_views.draws) for e in elements])
    made, effects = {}, []
    parts = zip(_by_name(two_views).items(), _split(two_views, uniforms), strict=True)
    for (name, view), own in parts:
        originals = (_decoded(source, element) for element in elements)
        made[name], found = measure_effects(name, view, originals, own)
        effects += found
    trained = _as_trained(two_views, source, images, seed)
    numbers = {
        "value_range": {name: _value_range(x) for name, x in trained.items()},
        "independence": _independence(uniforms, trained),
        "agreement": _agreement(made, trained) if two_views.stateless else None,
    }
    samples = [
        _sample(two_views, _decoded(source, element), own, trained, place)
        for place, (element, own) in enumerate(
            zip(elements.take(rows), uniforms, strict=False)
        )
    ]
    findings = [f"{e.view}: {e.name} {e.finding}" for e in effects if e.finding]
    findings += _flaws(numbers)
    return source.name, Preview(samples, effects, numbers, findings)


def _by_name(two_views: TwoViews):
    return {"view1": two_views.view1, "view2": two_views.view2}


def _split(two_views, uniforms):
    return np.split(uniforms, [two_views.view1.draws], axis=-1)


def _decoded(source, element):
    return np.asarray(source.decode(element["image"]), np.float32) / 255.0


def _as_trained(two_views, source, images, seed):
    """The views of the first images by name, by the run's own input pipeline."""
    batches = two_views.dataset(source, images, seed)
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
    # Stock layers draw what nobody sees here.
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


def _flaws(numbers):
    for name, found in numbers["value_range"].items():
        if not found["finite"] or found["least"] < 0.0 or found["most"] > 1.0:
            yield (
                f"{name}: values must be finite and in 0..1. "
                f"Received: {found['least']} to {found['most']}"
            )
    found = numbers["independence"]
    if found["images_with_draws_of_their_own"] < found["images"]:
        yield "images of one batch share draws"
    if found["images_with_equal_views"] > _MOST_EQUAL * found["images"]:
        yield "the two views of most images are equal"
    for name, share in (numbers["agreement"] or {}).items():
        if share < 1.0 - _MAY_DIFFER:
            yield f"{name}: the input pipeline differs from the layers"


def _sample(two_views, image, uniforms, trained, place):
    told, boxes = {}, {}
    parts = zip(_by_name(two_views).items(), _split(two_views, uniforms), strict=True)
    for (name, view), own in parts:
        told[name] = describe.told_of_view(view.layers, own, image.shape)
        if isinstance(view.layers[0], RandomResizedCrop):
            box = describe.box_of(
                view.layers[0], own[: view.layers[0].draws], image.shape
            )
            boxes[name] = tuple(np.array(box) / (image.shape[:2] * 2))
    views = {name: x[place] for name, x in trained.items()}
    return Sample(_small(image), views, told, boxes)


def _small(image):
    ratio = _SHOWN_PIXELS / max(image.shape[:2])
    if ratio >= 1.0:
        return image
    size = [max(1, round(n * ratio)) for n in image.shape[:2]]
    return tf.image.resize(image, size, "area").numpy()


def print_report(found: Preview, console: Console) -> None:
    """Prints the numbers of a preview."""
    table = Table(
        "view", "operation", "configured", "changed", "by chance", "of images"
    )
    for effect in found.effects:
        table.add_row(
            effect.view,
            effect.name,
            f"{effect.rate:.3f}",
            f"{effect.share:.3f}",
            f"{effect.least:.3f} to {effect.most:.3f}",
            f"{effect.changeable} of {effect.images}",
        )
    console.print(table)
    for name, values in found.numbers["value_range"].items():
        console.print(
            f"{name}: values {values['least']:.3f} to {values['most']:.3f}, mean "
            f"{values['mean']:.3f}, {100 * values['share_at_0']:.1f} % at 0, "
            f"{100 * values['share_at_1']:.1f} % at 1"
        )
    numbers = found.numbers["independence"]
    console.print(
        f"draws of their own: {numbers['images_with_draws_of_their_own']} of "
        f"{numbers['images']} images; equal views: {numbers['images_with_equal_views']}"
    )
    console.print(
        "mean difference between the views of one image "
        f"{numbers['difference_between_views_of_an_image']:.3f}, of two images "
        f"{numbers['difference_between_views_of_two_images']:.3f}"
    )
    for name, share in (found.numbers["agreement"] or {}).items():
        console.print(f"{name}: {100 * share:.3f} % of values as the layers make them")


def for_json(data_name: str, found: Preview) -> dict[str, Any]:
    """What a preview has measured, for JSON."""
    operations = [e._asdict() | {"share": e.share} for e in found.effects]
    return {
        "data": data_name,
        "operations": operations,
        **found.numbers,
        "findings": found.findings,
    }


def main(_):
    """Parses flags and gin, measures, draws and tells."""
    given = flags.FLAGS
    with cli.user_errors():
        if not given.out:
            raise ValueError("--out must name a PNG file. Received: none")
        contact_sheet.require_matplotlib()
        # Files bind what they bind for training; here that root is this function.
        previewed = gin.external_configurable(preview, "train", module="byol_keras")
        parse.parse_gin(given.gin_file, given.gin_param)
        name, found = previewed(given.images, given.rows)
        title = f"{name}\n{' '.join(given.gin_file)}"
        contact_sheet.draw(found.samples, found.effects, title, pathlib.Path(given.out))
        if given.json:
            text = json.dumps(for_json(name, found), indent=1) + "\n"
            write_text(pathlib.Path(given.json), text)
    print_report(found, Console())
    print(f"written to {given.out}")
    for line in found.findings:
        print(f"error: {line}", file=sys.stderr)
    if found.findings:
        sys.exit(EXIT_FINDINGS)


if __name__ == "__main__":
    cli.define_gin_flags()
    flags.DEFINE_string("out", None, "PNG file for the picture.")
    flags.DEFINE_string("json", None, "file for the numbers.")
    flags.DEFINE_integer("images", 256, "images to measure.", lower_bound=2)
    flags.DEFINE_integer("rows", 8, "images to show.", lower_bound=1)
    app.run(main, flags_parser=cli.parse_flags)
