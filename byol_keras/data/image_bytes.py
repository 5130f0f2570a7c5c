"""The bytes of an image file: what is wrong with them, and those that need Pillow."""

import importlib.util
import io
import struct

import numpy as np
import tensorflow as tf

from byol_keras.data import decoding

FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
# What a WebP file has at its 12th byte if it may be animated or transparent.
WEBP_EXTENDED = b"VP8X"
# Endings that a file of the format may have.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}


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


def format_of(data: bytes) -> str | None:
    """A key of `SUFFIXES`, by the contents and not by the name; None for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    found = (name for start, name in FORMATS.items() if data.startswith(start))
    return next(found, None)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Height and width that the header claims; None for JPEG, TIFF, and if cut short.

    An image is decoded only if this is reasonable: a header of a few bytes may claim
    more pixels than any memory holds.
    """
    try:
        match format_of(data):
            case "PNG":
                width, height = struct.unpack(">II", data[16:24])
            case "GIF":
                width, height = struct.unpack("<HH", data[6:10])
            case "BMP":
                width, height = struct.unpack("<ii", data[18:26])
            case "WebP":
                width, height = _webp_size(data)
            case _:
                return None
    except struct.error:
        return None
    return abs(height), abs(width)  # a BMP that begins at the top has a negative one


def bits_of_bmp(data: bytes) -> int:
    """Bits of a pixel, 0 if the header is cut short; of fewer than 24, a palette's."""
    return int.from_bytes(data[28:30], "little")


def is_animated_webp(data: bytes) -> bool:
    """Whether a WebP file says that it is an animation."""
    return data[12:16] == WEBP_EXTENDED and bool(data[20:21] and data[20] & 2)


def _webp_size(data):
    """Width and height; of the canvas where the file is an extended one."""
    match data[12:16]:
        case kind if kind == WEBP_EXTENDED:
            low_w, high_w, low_h, high_h = struct.unpack("<HBHB", data[24:30])
            return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
        case b"VP8L":
            (bits,) = struct.unpack("<I", data[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF
