"""The bytes of an image file: what is wrong with them, and those that need Pillow."""

import importlib.util
import io

import numpy as np
import tensorflow as tf

from byol_keras.data import decoding
from byol_keras.data.image_headers import (
    WEBP_EXTENDED,
    bits_of_bmp,
    format_of,
    is_animated_webp,
    size_of,
)

# First bytes of TIFF, whose two kinds differ in the order of bytes, and of BMP.
_STARTS = (b"II", b"MM", b"BM")
_KEPT_MODES = ("L", "LA", "RGB", "RGBA")


def flaw_of(data: bytes, channels: int = 3) -> str | None:
    """Why an image cannot be decoded, in a few words; None if it can.

    It is decoded to find out, a JPEG at an eighth of its size: that takes about half
    of the time, and meets the same errors.

    Args:
        data: contents of the file.
        channels: int. Of the result, as of `decoding.decode`.
    """
    if not data:
        return "empty file"
    kind = format_of(data)
    if kind is None:
        return f"no image: begins with {data[:12]!r}"
    if _needs_pillow(data) and not importlib.util.find_spec("PIL"):
        return f"{kind} of this kind needs Pillow: pip install pillow"
    try:
        _check_size(size_of(data))
        with tf.device("CPU"):
            if kind == "JPEG":
                _decode_small(data, channels)
            else:
                decoding.decode(readable(data), channels)
    except ValueError as error:  # of ours
        return str(error)
    except Exception:  # of TensorFlow or Pillow, of many kinds
        return f"{kind} that is damaged or cut short"
    return None


def readable(data: bytes) -> bytes:
    """The bytes themselves; a PNG instead where TensorFlow cannot read the format.

    That is TIFF, whose first page is taken, BMP with a palette, and animated WebP, of
    which TensorFlow 2.21 writes beyond its buffer if it is to return one frame.

    Raises:
        ValueError: for pixels whose range is unknown, and for too many of them.
    """
    if not _needs_pillow(data):
        return data
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        _check_size(image.size)
        png = io.BytesIO()
        image = _in_8_bits(image)
        ratio = int(decoding.ratio_of(image.size))
        image.reduce(ratio).save(png, "png", compress_level=1)
    return png.getvalue()


def readable_in_graph(data: tf.Tensor) -> tf.Tensor:
    """`readable` of a string scalar, without Python for most images."""
    start, kind = tf.strings.substr(data, 0, 2), tf.strings.substr(data, 12, 4)
    may_need = tf.reduce_any(start == tf.constant(_STARTS)) | (kind == WEBP_EXTENDED)

    def converted():
        return tf.numpy_function(readable, [data], tf.string, stateful=False)

    return tf.ensure_shape(tf.cond(may_need, converted, lambda: data), [])


def _needs_pillow(data):
    kind = format_of(data)
    return (
        kind == "TIFF"
        or (kind == "BMP" and bits_of_bmp(data) < 24)
        or (kind == "WebP" and is_animated_webp(data))
    )


def _check_size(size):
    if size and size[0] * size[1] > decoding.MAX_PIXELS:
        raise ValueError(
            f"{size[0]} x {size[1]} pixels, more than {decoding.MAX_PIXELS:,} in all"
        )


def _decode_small(data, channels):
    _, _, stored = shape = tf.io.extract_jpeg_shape(data).numpy()
    _check_size(tuple(shape[:2].tolist()))
    # The library cannot turn CMYK into grey; `decoding` does.
    tf.io.decode_jpeg(data, 1 if channels == 1 and stored != 4 else 3, ratio=8)


def _in_8_bits(image):
    """An image of Pillow in a mode that PNG has, of 8 bits for each channel."""
    from PIL import Image

    if image.mode in _KEPT_MODES:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits for each channel, whose range is unknown")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")
