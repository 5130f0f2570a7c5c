"""Masks of objects from COCO's two codes, polygons and run lengths."""

from collections.abc import Sequence

import numpy as np


def read_segmentation(segmentation, height: int, width: int) -> list | dict:
    """Checks the mask of an annotation and converts its polygons to arrays.

    Args:
        segmentation: list of polygons, each a list `[x, y, x, y, ...]` in pixels, whose
            union is the mask; or a dict with `size` and `counts`, run lengths as a list
            or as a compressed string.
        height, width: int. Of the image.

    Returns:
        List of float64 `[2 k]`, the polygons with at least three corners; or the dict.

    Raises:
        ValueError: for any other value, for polygons with fewer corners only, and for
            run lengths that do not cover the image.
    """
    if isinstance(segmentation, dict):
        try:
            runs = _run_lengths(segmentation.get("counts"))
        except (OverflowError, TypeError, ValueError):
            raise ValueError("run lengths that are no numbers") from None
        covers = min(runs, default=-1) >= 0 and sum(runs) == height * width
        if segmentation.get("size") != [height, width] or not covers:
            raise ValueError("run lengths that do not cover the image")
        return segmentation
    if not isinstance(segmentation, list):
        raise ValueError("neither polygons nor run lengths")
    try:
        polygons = [np.asarray(polygon, np.float64) for polygon in segmentation]
    except (OverflowError, TypeError, ValueError):
        raise ValueError("polygons that are not lists of numbers") from None
    polygons = [p for p in polygons if p.ndim == 1 and len(p) >= 6 and len(p) % 2 == 0]
    if not polygons or not all(np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("no polygon of three corners or more")
    return polygons


def bitmap(segmentation, height: int, width: int) -> np.ndarray:
    """The mask of an object, bool `[height, width]`.

    Args:
        segmentation: result of `read_segmentation`. A pixel is inside a polygon if its
            center is.
        height, width: int. Of the image.
    """
    if isinstance(segmentation, dict):
        return _decoded(segmentation)
    return _inside_polygons(segmentation, height, width)


def cropped_mask(segmentation, box: np.ndarray, size: int) -> np.ndarray:
    """The mask within a box, resized to a square: the target of a mask head.

    The Model Garden's mask sampler instead reads cells at their corners, which shifts
    the mask by 1 / (2 size) of the box.

    Args:
        segmentation: result of `read_segmentation`.
        box: `[4]`, ymin, xmin, ymax, xmax in pixels of the image, within the image.
        size: int. Side of the square.

    Returns:
        float32 `[size, size]`, 1 where the center of a cell is on the object, else 0.
    """
    ymin, xmin, ymax, xmax = np.asarray(box, np.float64)
    scale = np.array([size / (xmax - xmin), size / (ymax - ymin)])
    if isinstance(segmentation, dict):
        centres = np.arange(size) + 0.5
        rows = (ymin + centres / scale[1]).astype(int)
        columns = (xmin + centres / scale[0]).astype(int)
        mask = _decoded(segmentation)[np.ix_(rows, columns)]
    else:
        corners = [polygon.reshape(-1, 2) for polygon in segmentation]
        moved = [((xy - [xmin, ymin]) * scale).ravel() for xy in corners]
        mask = _inside_polygons(moved, size, size)
    return mask.astype(np.float32)


def encode_masks(masks: np.ndarray) -> list[dict]:
    """Masks as compressed run lengths, in about a thousandth of the memory.

    Args:
        masks: bool `[n, height, width]`.

    Raises:
        ValueError: if pycocotools is not installed.
    """
    pixels = np.asfortranarray(np.moveaxis(np.asarray(masks, np.uint8), 0, -1))
    return coco_masks().encode(pixels) if pixels.size else []


def coco_masks():
    """The module `pycocotools.mask`.

    Raises:
        ValueError: if pycocotools is not installed.
    """
    try:
        import pycocotools.mask
    except ImportError as error:
        raise ValueError(
            'COCO masks and metrics need pycocotools: pip install "byol_keras[dense]". '
            "Received: an environment without it"
        ) from error
    return pycocotools.mask


def _run_lengths(counts) -> list[int]:
    """Runs of 0 and 1 by turns; of a string as COCO compresses them.

    A number has five bits per character, the lowest first. Its sixth bit says that more
    follow, and the fifth bit of the last one is the sign. From the fourth number on, it
    is the difference from the last but one.
    """
    if isinstance(counts, list):
        return [int(count) for count in counts]
    runs, value, shift = [], 0, 0
    for character in counts.encode() if isinstance(counts, str) else counts or b"":
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs


def _decoded(code):
    if not isinstance(code["counts"], list):
        return coco_masks().decode(code).astype(bool)
    counts = code["counts"]
    values = np.arange(len(counts)) % 2 == 1
    height, width = code["size"]
    return np.repeat(values, counts).reshape(width, height).T


def _inside_polygons(polygons: Sequence[np.ndarray], height, width):
    """Pixels whose center is inside one of the polygons, by the even-odd rule."""
    inside = np.zeros((height, width), bool)
    centres = np.arange(height) + 0.5
    for polygon in polygons:
        x0, y0 = polygon[0::2], polygon[1::2]
        x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
        crosses = (y0[:, None] <= centres) != (y1[:, None] <= centres)
        edge, row = np.nonzero(crosses)
        slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        at = x0[edge] + (centres[row] - y0[edge]) * slope
        # The first pixel of the row whose center is to the right of the edge.
        column = np.clip(np.ceil(at - 0.5), 0, width).astype(int)
        edges_left = np.zeros((height, width + 1), int)
        np.add.at(edges_left, (row, column), 1)
        inside |= np.cumsum(edges_left, axis=1)[:, :width] % 2 == 1
    return inside
