"""The bytes of an image file: format, flaws, and conversion for TensorFlow."""

import contextlib
import io
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from byol_keras.data import decoding
from byol_keras.runtime.host_calls import host_function


def _optional_readers() -> dict[str, Callable]:
    """Readers that some builds of Pillow have, and that of its plug-in for HEIC."""
    readers = {}
    with contextlib.suppress(ImportError):
        from PIL import AvifImagePlugin

        if AvifImagePlugin.SUPPORTED:
            readers["AVIF"] = AvifImagePlugin.AvifImageFile
    with contextlib.suppress(ImportError):
        from pillow_heif import HeifImageFile

        readers["HEIC"] = HeifImageFile
    return readers


# Pillow's readers of headers. Unlike `Image.open`, they do not warn of images that are
# large but within our own limit.
_PILLOW_READERS = {
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    **_optional_readers(),
}
_ALL_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "HEIC": (".heic", ".heif"),
}
# Format that can be read here -> file name extensions.
SUFFIXES = {
    kind: suffixes
    for kind, suffixes in _ALL_SUFFIXES.items()
    if kind in ("JPEG", "PNG", *_PILLOW_READERS)
}
# First bytes of a file -> format. WebP, AVIF and HEIC have their names further on.
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    **{prefix: "TIFF" for prefix in TiffImagePlugin.PREFIXES},
}
# The fifth to eighth byte of AVIF and HEIC; their brands follow.
_ISO_MEDIA = b"ftyp"
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Pillow's names of the pixel layouts of BMP that TensorFlow reads correctly: 24 bits,
# and 32 bits in the usual order.
_BMP_OF_TENSORFLOW = ("BGR", "BGRX", "BGRA")
# Modes of Pillow that PNG stores with 8 bits per channel.
_PNG_MODES = ("L", "LA", "RGB", "RGBA")
# Formats that TensorFlow does not read. Of GIF it decodes all frames, refuses files
# whose later frames are damaged, and makes transparent pixels black.
_OF_PILLOW = ("GIF", "TIFF", "PPM", "AVIF", "HEIC")
# Pillow's words on images that are not damaged, but of a kind that it does not read.
_UNSUPPORTED = ("Unsupported", "not supported", "unknown pixel mode")
# The first two bytes of TIFF in both byte orders, of BMP, GIF and the kinds of PPM.
_STARTS = (b"II", b"MM", b"BM", b"GI", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
# The segment of a CMYK JPEG with which all readers take its values as inverted. Without
# it, Pillow and browsers do, but not TensorFlow.
_ADOBE_MARKER = rb"\xff\xee..Adobe"
# The 12th byte of a WebP file that may be animated or transparent.
_WEBP_EXTENDED = b"VP8X"


class _Unusable(ValueError):
    """A flaw that this module found, in contrast to errors of the decoders."""


def flaw_of(data: bytes, channels: int = 3) -> str | None:
    """Why an image cannot be decoded, in a few words; None if it can.

    Decodes the image to find out. A JPEG is decoded at an eighth of its size, which
    halves the time and raises the same errors.

    Args:
        data: contents of the file.
        channels: int. Channels of the result; see `decoding.decode`.
    """
    if not data:
        return "empty file"
    kind = format_of(data)
    if kind is None:
        return f"no image: begins with {data[:12]!r}"
    if kind not in SUFFIXES:
        return f"{kind}, which the installed Pillow cannot read"
    try:
        with tf.device("CPU"):
            if kind == "JPEG":
                _decode_small(data, channels)
            else:
                _check_size(_size_of(data, kind))
                decoding.decode(readable(data), channels)
    except (_Unusable, Image.DecompressionBombError) as error:
        return str(error)
    except Exception as error:  # TensorFlow and Pillow raise many kinds
        if any(words in str(error) for words in _UNSUPPORTED):
            return f"{kind} that Pillow cannot read ({error})"
        return f"{kind} that is damaged or cut short"
    return None


def readable(data: bytes) -> bytes:
    """The same bytes, or a BMP or PNG where TensorFlow cannot read the image.

    Converts GIF, TIFF (its first page), PPM, AVIF, HEIC, BMP with a palette, 16 bits,
    an unusual order of channels or bytes after its pixels, and animated WebP: asked for
    one frame of it, TensorFlow 2.21 writes beyond its buffer.

    Raises:
        ValueError: if the range of the pixels is unknown, or there are too many pixels.
    """
    kind = format_of(data)
    if kind in _OF_PILLOW or (kind == "WebP" and _is_animated(data)):
        with _opened(data, kind) as image:
            return _converted(image)
    if kind == "BMP":
        with _opened(data, kind) as image:
            return data if _is_plain_bmp(image, len(data)) else _converted(image)
    return data


def readable_in_graph(data: tf.Tensor) -> tf.Tensor:
    """`readable` of a string scalar; most images do not leave the graph."""
    start, media, webp = (
        tf.strings.substr(data, place, length)
        for place, length in ((0, 2), (4, 4), (12, 4))
    )
    may_need = tf.reduce_any(start == tf.constant(_STARTS))
    may_need |= (media == _ISO_MEDIA) | (webp == _WEBP_EXTENDED)

    def converted():
        return host_function(readable, [data], tf.string, stateful=False)

    return tf.ensure_shape(tf.cond(may_need, converted, lambda: data), [])


def format_of(data: bytes) -> str | None:
    """The format found by the contents, as "JPEG"; None for other data.

    AVIF and HEIC are keys of `SUFFIXES` only where Pillow can read them.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if re.match(rb"P[1-6]\s", data):
        return "PPM"
    if data[4:8] == _ISO_MEDIA:
        return _format_of_media(data)
    found = (name for start, name in _SIGNATURES.items() if data.startswith(start))
    return next(found, None)


def _format_of_media(data):
    length = int.from_bytes(data[:4], "big")
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIC" if brands[0] in _HEIC_BRANDS else None


def bits_of(data: bytes) -> int:
    """Bits per channel as stored, of an image that can be decoded: mostly 8."""
    kind = format_of(data)
    if kind == "PNG":
        return data[24]
    if kind not in ("TIFF", "PPM"):
        return 8
    with _opened(data, kind) as image:
        return _stored_bits(image)


def _stored_bits(image):
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    return 16 if image.mode.startswith("I") else 8


def _opened(data: bytes, kind: str) -> ImageFile.ImageFile:
    return _PILLOW_READERS[kind](io.BytesIO(data))


def _size_of(data, kind):
    """Two sides in pixels as the header claims them, without decoding."""
    if kind == "PNG":
        return decoding.png_size(data).numpy().tolist()
    with _opened(data, kind) as image:
        return image.height, image.width


def _check_size(size):
    """A header of a few bytes may claim more pixels than any memory holds."""
    if size[0] * size[1] > decoding.MAX_PIXELS:
        raise _Unusable(
            f"{size[0]} x {size[1]} pixels, more than {decoding.MAX_PIXELS:,} in all"
        )


def _decode_small(data, channels):
    *size, stored = tf.io.extract_jpeg_shape(data).numpy().tolist()
    _check_size(size)
    if stored == 4 and not re.search(_ADOBE_MARKER, data, re.DOTALL):
        raise _Unusable("CMYK JPEG that does not say whether it is inverted")
    # libjpeg cannot convert CMYK to grey; `decoding.decode` does.
    tf.io.decode_jpeg(data, 1 if channels == 1 and stored != 4 else 3, ratio=8)


def _is_animated(webp: bytes) -> bool:
    # Pillow counts frames, but TensorFlow fails on animations of one frame too.
    return webp[12:16] == _WEBP_EXTENDED and bool(webp[20:21] and webp[20] & 2)


def _is_plain_bmp(image, length):
    """Whether TensorFlow reads a BMP of this length in bytes as Pillow does."""
    _, _, offset, (layout, row, *_) = image.tile[0]
    return layout in _BMP_OF_TENSORFLOW and length == offset + row * image.height


def _converted(image):
    _check_size((image.height, image.width))
    ratio = int(decoding.ratio_of(image.size))
    image = _in_8_bits(image).reduce(ratio)
    encoded = io.BytesIO()
    # BMP is written and read several times as fast.
    form = "bmp" if image.mode == "RGB" else "png"
    image.save(encoded, form, compress_level=1)
    return encoded.getvalue()


def _in_8_bits(image):
    """A Pillow image in one of `_PNG_MODES`."""
    if image.mode in _PNG_MODES and image.format != "GIF":
        return image
    of_16_bits = image.mode == "I" and image.format == "PPM"  # scaled by Pillow
    if image.mode.startswith("I;16") or of_16_bits:
        excess = _stored_bits(image) - 8
        return Image.fromarray((np.asarray(image) >> excess).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _Unusable("32 bits or signed values, whose range is unknown")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")
