"""Predicting the class of every pixel of an image of any size, and drawing it."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.segmentation.augmentation import scaled_size
from byol_keras.benchmarks.segmentation.fcn import FCN, resize_bilinear
from byol_keras.benchmarks.segmentation.metrics import IGNORED

_GAP = 4
_LEGEND_ROW = 14  # of Pillow's own font


def predictor(
    model: FCN, scale: Sequence[int], window: Sequence[int] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image to the class of each of its pixels.

    The image is resized to fit `scale`, as for training, and the logits back to its
    size.

    Args:
        model: trained.
        scale: two ints; see `scaled_size`.
        window: None to look at whole images; or side and stride of a square window,
            whose logits are averaged where windows overlap.

    Returns:
        Function of uint8 `[h, w, 3]` that returns uint8 `[h, w]`.

    Source: mmsegmentation 0.x, `EncoderDecoder.whole_inference` and `slide_inference`.
    """
    one_window = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32)],
    )

    def predict(image):
        size = image.shape[:2]
        images = resize_bilinear(image[None], scaled_size(size, scale), False) / 255.0
        if window is None:
            logits = one_window(images)
        else:
            logits = _slide(one_window, images, *window)
        logits = resize_bilinear(logits, size, model.align_corners)
        return tf.cast(tf.argmax(logits, axis=-1)[0], tf.uint8).numpy()

    return predict


def _slide(one_window, images, side, stride):
    """Mean logits of windows that cover the image, float32 `[1, H, W, classes]`."""
    height, width = images.shape[1:3]
    total, count = 0.0, np.zeros((1, height, width, 1), np.float32)
    for top in window_starts(height, side, stride):
        for left in window_starts(width, side, stride):
            part = images[:, top : top + side, left : left + side]
            logits = one_window(part)
            bottom, right = top + part.shape[1], left + part.shape[2]
            around = [[0, 0], [top, height - bottom], [left, width - right], [0, 0]]
            total += tf.pad(logits, around)
            count[:, top:bottom, left:right] += 1.0
    return total / count


def window_starts(length: int, side: int, stride: int) -> list[int]:
    """First pixels of windows that cover a length; the last one ends where it ends."""
    last = max(length - side, 0)
    return [*range(0, last, stride), last]


def draw(
    image: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    class_names: Sequence[str],
    path: os.PathLike,
) -> None:
    """Writes a PNG of an image, its mask, and the prediction, side by side.

    Below them stand the names of the classes of both, in their colours.

    Args:
        image: uint8 `[h, w, 3]`.
        mask, prediction: uint8 `[h, w]`, in VOC's colours; 255 is cream.
        class_names: by class.
        path: of the file; its folder is created if missing.
    """
    from PIL import Image

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
    from PIL import Image, ImageDraw

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
    """VOC's colours, uint8 `[256, 3]`, of classes that are numbered in its way.

    The bits of a class are dealt to red, green and blue in turn, each colour's first
    one to its highest bit.
    """
    bits = (np.arange(256)[:, None] >> np.arange(9)) & 1
    dealt = bits.reshape(256, 3, 3)  # class, round, channel
    return (dealt << (7 - np.arange(3))[:, None]).sum(axis=1).astype(np.uint8)
