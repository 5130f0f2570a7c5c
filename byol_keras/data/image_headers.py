"""What the first bytes of an image file tell: its format, and mostly its size."""

import struct

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
