"""Image files whose pixels are reduced once and kept in memory."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from byol_keras.data import decoding
from byol_keras.data.unreadable import load_image

# Bytes of all images that are kept; further ones are decoded for each use.
_MOST_BYTES = 1 << 31


class ReducedImages:
    """Loads image files with a short side of at most `short_side` pixels.

    Larger images are reduced by Pillow's bilinear filter, which averages over all
    pixels, with their aspect ratio kept. An image is decoded once and then kept, until
    the kept ones take 2 GiB; a file that changes after that is not noticed.

    Args:
        short_side: int. In pixels.
        convert: see `readable_files.ReadableFiles`.
    """

    def __init__(self, short_side: int, convert: Callable[[bytes], bytes]):
        self._short_side = short_side
        self._convert = convert
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._bytes = 0

    def __call__(self, path: str, channels: int) -> tuple[np.ndarray, str | None]:
        """uint8 `[h, w, channels]` of a file, and why it cannot be used or None."""
        key = (path, channels)
        if key in self._kept:
            return self._kept[key], None
        contents, flaw = load_image(path, channels)
        if flaw is None:
            try:
                contents = self._convert(contents)
            except ValueError as error:
                flaw = str(error)
        if flaw is not None:
            return np.zeros((0, 0, channels), np.uint8), flaw
        with tf.device("CPU"):
            pixels = decoding.decode(contents, channels).numpy()
        pixels = reduced(pixels, self._short_side)
        if self._bytes + pixels.nbytes <= _MOST_BYTES:
            self._bytes += pixels.nbytes
            self._kept[key] = pixels
        return pixels, None


def reduced(pixels: np.ndarray, short_side: int) -> np.ndarray:
    """uint8 `[h, w, C]`, C 1 or 3, with a short side of at most `short_side` pixels."""
    height, width, channels = pixels.shape
    scale = short_side / min(height, width)
    if scale >= 1.0:
        return pixels
    size = (round(width * scale), round(height * scale))
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR)).reshape(
        size[1], size[0], channels
    )
