"""Pictures of a page, encoded so that the page contains them."""

import base64
from collections.abc import Sequence

import matplotlib
import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.monitoring.representation import power_law_slope, rankme, spectrum
from byol_keras.report import representation
from byol_keras.report.representation import Sample

# Images up to this side are stored without loss.
_LOSSLESS = 32
_QUALITY = 82
# Rows and columns of the map of images, and the side of an image in pixels.
CELLS, _CELL = 16, 48
QUERIES = 4


def encode(image: np.ndarray) -> str:
    """A data URI of an image, uint8 `[h, w, C]`.

    One or two channels: the first is shown as grey. Three or more: the first three are
    shown as red, green and blue.
    """
    channels = 3 if image.shape[-1] >= 3 else 1
    image = image[..., :channels]
    if max(image.shape[:2]) <= _LOSSLESS:
        kind, data = "png", tf.io.encode_png(image)
    else:
        kind, data = "jpeg", tf.io.encode_jpeg(image, quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(data.numpy()).decode()}"


def augmentation_sheet(views, data, seed: int, pass_length: int, count: int) -> dict:
    """The first images of a run beside their two views in the first step.

    Args:
        views: `views.TwoViews`.
        data: `data.ImageData`.
        seed, pass_length: of the run.
        count: int. Images.

    Returns:
        A dict for the page: `rows` of three data URIs each.
    """
    order = {"seed": seed, "pass_length": pass_length}
    batch = next(iter(views.dataset(data, count, **order)))
    both = views.on_device(*batch) if views.place == "device" else batch
    both = [representation.to_bytes(view, representation.PICTURE) for view in both]
    rows = []
    for element, view1, view2 in zip(
        data.stream(**order).take(count), *both, strict=True
    ):
        image = to_float(data.decode(element["image"]))
        original = representation.to_bytes(image[None], representation.PICTURE)[0]
        rows.append([encode(original), encode(view1), encode(view2)])
    return {"rows": rows}


def gallery(sample: Sample, class_names: Sequence[str] | None, seed: int) -> dict:
    """Queries and their nearest neighbours within the sample.

    Returns:
        A dict for the page: `groups` of queries; with labels also `agreement`, the
        share of neighbours with the label of their query, and `chance`, that share for
        random pairs.
    """
    k = min(representation.NEIGHBOURS, len(sample.features) - 1)
    found = representation.find_neighbours(sample.features, sample.labels, k)
    names = class_names if sample.labels is not None else None

    def shown(place, of=None, similarity=None):
        label = names[sample.labels[place]] if names else None
        same = None
        if names and of is not None:
            same = bool(sample.labels[place] == sample.labels[of])
        return {
            "image": encode(sample.thumbnails[place]),
            "label": label,
            "same": same,
            "similarity": None if similarity is None else round(float(similarity), 3),
        }

    chosen = representation.choose_queries(found, sample.labels, QUERIES, seed)
    groups = [
        {
            "title": title,
            "words": words,
            "queries": [
                {
                    "query": shown(query),
                    "found": [
                        shown(place, query, similarity)
                        for place, similarity in zip(
                            found.places[query], found.similarities[query], strict=True
                        )
                    ],
                }
                for query in queries
            ],
        }
        for title, (words, queries) in chosen.items()
    ]
    result = {"k": k, "images": len(sample.features), "groups": groups}
    if names:
        shares = np.unique(sample.labels, return_counts=True)[1] / len(sample.labels)
        result["agreement"] = float(np.mean(found.agreement))
        result["chance"] = float(np.sum(shares**2))
    return result


def embedding_map(sample: Sample, class_names: Sequence[str] | None, seed: int) -> dict:
    """A map of the sample: points coloured by label, and images at their positions.

    Returns:
        A dict for the page: `method`; `images`, each the column, the row and the data
        URI of one of `cells` x `cells` squares; with labels also `points`, each x and y
        in 0..1 and the label, and `classes`.
    """
    method, points = representation.embed_in_plane(sample.features, seed)
    tiles = _tiles(sample.thumbnails, points)
    result = {"method": method, "images": tiles, "cells": CELLS}
    if sample.labels is not None:
        result["classes"] = list(class_names)
        result["points"] = [
            [round(float(x), 4), round(float(y), 4), int(label)]
            for (x, y), label in zip(points, sample.labels, strict=True)
        ]
    return result


def activation_maps(sample: Sample) -> list[list[str]]:
    """Pairs of an image and its overlay with the activation, as data URIs."""
    size = sample.pictures.shape[1:3]
    heat = sample.activations
    low = heat.min(axis=(1, 2), keepdims=True)
    spread = heat.max(axis=(1, 2), keepdims=True) - low
    heat = (heat - low) / np.where(spread > 0.0, spread, 1.0)
    heat = tf.image.resize(heat[..., None], size, "bicubic").numpy()[..., 0]
    colours = matplotlib.colormaps["inferno"](np.clip(heat, 0.0, 1.0))[..., :3]
    found = []
    for picture, colour in zip(sample.pictures, colours, strict=True):
        grey = picture[..., :3].mean(axis=-1, keepdims=True)
        mixed = 0.4 * grey + 0.6 * 255.0 * colour
        found.append([encode(picture), encode(np.round(mixed).astype(np.uint8))])
    return found


def spectrum_of(sample: Sample) -> dict:
    """Eigenvalues of the covariance of the representation, effective rank and slope."""
    values = spectrum(sample.features)
    slope = power_law_slope(values)
    return {
        "eigenvalues": [float(f"{value:.6g}") for value in values],
        "rankme": rankme(sample.features),
        "slope": slope if np.isfinite(slope) else None,
        "images": len(sample.features),
    }


def _tiles(thumbnails, points):
    """For each cell of a grid, the image closest to its middle: column, row, data URI.

    Rows count from the top, while the y of a point grows upwards.
    """
    cells = np.minimum((points * CELLS).astype(int), CELLS - 1)
    distances = np.sum((points * CELLS - cells - 0.5) ** 2, axis=1)
    closest = {}
    for place in np.argsort(distances, kind="stable"):
        closest.setdefault((int(cells[place][0]), int(cells[place][1])), place)
    places = list(closest.values())
    small = representation.to_bytes(thumbnails[places] / np.float32(255.0), _CELL)
    return [
        [column, CELLS - 1 - row, encode(image)]
        for (column, row), image in zip(closest, small, strict=True)
    ]
