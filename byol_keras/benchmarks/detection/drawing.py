"""Pictures of detections: boxes, class names, scores and masks on the image."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from byol_keras.benchmarks.detection.masks import bitmap

_OPACITY = 0.45  # of masks
_GOLDEN_RATIO = 0.61803399


def draw_detections(
    image: np.ndarray,
    detections: tuple,
    class_names: Sequence[str],
    path: str | os.PathLike,
    min_score: float = 0.3,
) -> None:
    """Writes an image with its detections as PNG, with one color per class.

    Args:
        image: `[h, w, 3]`, uint8, or float in 0..1.
        detections: tuple of boxes `[m, 4]` (ymin, xmin, ymax, xmax in pixels), scores
            `[m]`, labels `[m]` from 0, and masks: bool `[m, h, w]`, or encoded by
            `masks.encode_masks`, or None.
        class_names: names of the classes, by label.
        path: of the PNG. Its folder is created if it is missing.
        min_score: float. Detections of a lower score are left out.
    """
    boxes, scores, labels, masks = detections
    pixels = np.array(image)
    if pixels.dtype != np.uint8:
        pixels = (255 * np.clip(pixels, 0, 1)).round().astype(np.uint8)
    shown = [place for place in np.argsort(scores) if scores[place] >= min_score]
    if masks is not None:
        for place in shown:
            mask = masks[place]
            if isinstance(mask, dict):
                mask = bitmap(mask, *pixels.shape[:2])
            mask, color = np.asarray(mask, bool), np.array(_color(labels[place]))
            blend = (1 - _OPACITY) * pixels[mask] + _OPACITY * color
            pixels[mask] = blend.round().astype(np.uint8)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for place in shown:
        text = f"{class_names[labels[place]]} {scores[place]:.2f}"
        _draw_box(draw, np.asarray(boxes[place]), text, _color(labels[place]))
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "png")


def _color(label) -> tuple[int, int, int]:
    """A color whose hue is far from those of neighboring labels (golden ratio)."""
    hue = 6 * ((0.05 + _GOLDEN_RATIO * int(label)) % 1)
    channels = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return tuple(int(255 * channel) for channel in channels)


def _draw_box(draw, box, text, color):
    # The last pixel of a box is one before its end.
    ymin, xmin, ymax, xmax = (float(edge) for edge in box)
    right, bottom = max(xmin, xmax - 1), max(ymin, ymax - 1)
    draw.rectangle([xmin, ymin, right, bottom], outline=color)
    _, _, text_width, text_height = draw.textbbox((0, 0), text)
    # The label is above the box, or inside it at the top edge of the image.
    left = max(0.0, min(xmin + 1, draw.im.size[0] - text_width))
    start = (left, max(0.0, ymin - text_height - 1))
    end = (start[0] + text_width, start[1] + text_height)
    draw.rectangle([min(xmin, left), start[1], *end], fill=color)
    luminance = np.dot(color, (0.299, 0.587, 0.114))
    draw.text(start, text, fill="black" if luminance > 110 else "white")
