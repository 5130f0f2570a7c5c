"""Pictures of an image, its mask and the prediction, with a legend of the classes."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from byol_keras.benchmarks.segmentation.metrics import IGNORED

_GAP = 4
_LEGEND_ROW = 14  # height of a row in Pillow's default font


def draw_segmentation(
    image: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    class_names: Sequence[str],
    path: os.PathLike,
) -> None:
    """Writes a PNG of an image, its mask and the prediction, side by side.

    A legend below them names the classes of mask and prediction in their colours.

    Args:
        image: uint8 `[h, w, 3]`.
        mask, prediction: uint8 `[h, w]`, drawn in VOC's colours; 255 is cream.
        class_names: names of the classes, by class.
        path: of the file. Its folder is created if it is missing.
    """
    colours = voc_palette()
    gap = np.full((len(image), _GAP, 3), 255, np.uint8)
    parts = (image, gap, colours[mask], gap, colours[prediction])
    pictures = np.concatenate(parts, axis=1)
    shown = np.union1d(mask[mask != IGNORED], prediction)
    names = {class_names[place]: tuple(colours[place].tolist()) for place in shown}
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate([pictures, _legend(names, pictures.shape[1])])
    Image.fromarray(rows).save(path)


def _legend(colours, width):
    """Names beside squares of their colours, on white, uint8 `[h, width, 3]`."""
    sheet = Image.new("RGB", (width, _LEGEND_ROW * len(colours)), "white")
    pen = ImageDraw.Draw(sheet)
    x = y = 0
    for name, colour in colours.items():
        text_start = x + _LEGEND_ROW
        end = text_start + pen.textlength(name) + 2 * _GAP
        if x and end > width:
            x, y = 0, y + _LEGEND_ROW
            text_start, end = x + _LEGEND_ROW, end - text_start + _LEGEND_ROW
        square = [x + _GAP // 2, y + _GAP, x + _LEGEND_ROW - _GAP, y + _LEGEND_ROW - 2]
        pen.rectangle(square, fill=colour)
        pen.text((text_start, y + 1), name, fill="black")
        x = end
    return np.asarray(sheet)[: y + _LEGEND_ROW]


def voc_palette() -> np.ndarray:
    """The colours of PASCAL VOC by class, uint8 `[256, 3]`.

    The bits of the class number are given to red, green and blue in turn, from each
    colour's highest bit down.
    """
    bits = (np.arange(256)[:, None] >> np.arange(9)) & 1
    by_round = bits.reshape(256, 3, 3)  # class, round, channel
    return (by_round << (7 - np.arange(3))[:, None]).sum(axis=1).astype(np.uint8)
