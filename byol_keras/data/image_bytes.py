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
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from byol_keras.data import decoding, orientation


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
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
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
    if kind in _PILLOW_READERS
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
# Words without which Pillow finds no orientation in a file that TensorFlow reads.
_ORIENTATION_WORDS = {
    "JPEG": (b"Exif\0\0", b"tiff:Orientation"),
    "PNG": (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp"),
    "WebP": (b"EXIF", b"XMP "),
}
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


def readable(
    data: bytes, exif_orientation: bool = True, bits: int | None = None
) -> bytes:
    """The same bytes, or others that `decoding` reads as the image is meant.

    Converts GIF, TIFF (its first page), PPM, AVIF, HEIC, BMP with a palette, 16 bits,
    an unusual order of channels or bytes after its pixels, and animated WebP: asked for
    one frame of it, TensorFlow 2.21 writes beyond its buffer. A JPEG that is not
    upright is marked, see `orientation`; PNG and WebP are turned.

    Args:
        data: contents of an image file without a flaw.
        exif_orientation: bool. Whether the image is turned as its EXIF data say. Pillow
            turns TIFF and HEIC in both cases.
        bits: int in 8..16 or None; see `image_folder.image_folder`.

    Raises:
        ValueError: if the range of the pixels is unknown, or there are too many pixels.
    """
    kind = format_of(data)
    turn = orientation_of(data) if exif_orientation else 1
    if kind == "JPEG":
        return data if turn == 1 else orientation.marked(data, turn)
    is_scaled = bits is not None and bits_of(data) == 16
    if turn == 1 and not is_scaled and not _must_be_converted(data, kind):
        return data
    with _opened(data, kind) as image:
        pixels = _of_bits(data, image, bits) if is_scaled else None
        return _converted(image, exif_orientation, pixels)


def orientation_of(data: bytes) -> int:
    """1..8: the orientation of a JPEG, PNG or WebP by its EXIF data.

    1 for other formats, and for images without EXIF data or with damaged ones.
    """
    kind = format_of(data)
    if any(word in data for word in _ORIENTATION_WORDS.get(kind, ())):
        with contextlib.suppress(Exception), _opened(data, kind) as image:
            return orientation.orientation_of(image)
    return 1


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
    """Bits of a Pillow image in TIFF or PPM that is not decoded yet."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    how = image.tile[0][3]
    if isinstance(how, tuple):
        return how[1].bit_length()
    return 16 if image.mode == "I" else 8


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


def _must_be_converted(data, kind):
    if kind == "BMP":
        with _opened(data, kind) as image:
            return not _is_plain_bmp(image, len(data))
    return kind in _OF_PILLOW or (kind == "WebP" and _is_animated(data))


def _is_plain_bmp(image, length):
    """Whether TensorFlow reads a BMP of this length in bytes as Pillow does."""
    _, _, offset, (layout, row, *_) = image.tile[0]
    return layout in _BMP_OF_TENSORFLOW and length == offset + row * image.height


def _converted(image, exif_orientation, pixels=None):
    """Encodes a Pillow image, or these pixels of it."""
    _check_size((image.height, image.width))
    ratio = int(decoding.ratio_of(image.size))
    pixels = (pixels or _in_8_bits(image)).reduce(ratio)
    if exif_orientation:
        # Looked for after decoding, which turns TIFF and forgets its orientation.
        pixels = orientation.upright(pixels, orientation.orientation_of(image))
    encoded = io.BytesIO()
    # BMP is written and read several times as fast.
    form = "bmp" if pixels.mode == "RGB" else "png"
    pixels.save(encoded, form, compress_level=1)
    return encoded.getvalue()


def _of_bits(data, image, bits):
    """A Pillow image of 8 bits from values of `bits` bits in an image of 16."""
    if image.format == "PNG":
        with tf.device("CPU"):
            values = tf.io.decode_png(data, dtype=tf.uint16).numpy()
        values = values[..., 0] if values.shape[-1] == 1 else values
    elif image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        raise _Unusable(
            f"{image.format} in colour with 16 bits, of which Pillow reads only the "
            "upper 8; image_folder.bits needs PNG"
        )
    return Image.fromarray(np.minimum(values >> (bits - 8), 255).astype(np.uint8))


def _in_8_bits(image):
    """A Pillow image in one of `_PNG_MODES`."""
    if image.mode in _PNG_MODES and image.format != "GIF":
        return image
    is_ppm = image.mode == "I" and image.format == "PPM"  # scaled by Pillow
    if image.mode.startswith("I;16") or is_ppm:
        excess = _stored_bits(image) - 8 if image.format == "TIFF" else 8
        return Image.fromarray((np.asarray(image) >> excess).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _Unusable("32 bits or signed values, whose range is unknown")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")
