"""Images in all modes of the formats that are read, some of them written by hand."""

import contextlib
import itertools
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, features

from support.images import encode, gif_that_covers_a_part, gradient

with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()


def png(depth, colour, *chunks, interlaced=False, size=(11, 13), seed=0):
    """PNG of random samples, of any depth and colour type, with further chunks."""
    height, width = size
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    bits = np.random.default_rng(seed).integers(
        0, 2, (height, width, samples * depth), dtype=np.uint8
    )
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
        passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, right in passes:
        part = bits[top::down, left::right]
        if part.size:
            packed = np.packbits(part.reshape(len(part), -1), axis=1)
            rows += b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    everything = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows))]
    parts = [
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [*everything, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pngs():
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour, of_colour in depths.items():
        for depth, interlaced in itertools.product(of_colour, (False, True)):
            palette = np.random.default_rng(1).bytes(3 * 2**depth)
            chunks = [(b"PLTE", palette)] if colour == 3 else []
            transparent = {0: b"\0\1", 2: bytes(6), 3: bytes([0, 128])}.get(colour)
            name = f"colour {colour}, {depth} bits, {interlaced=}"
            yield f"{name}.png", png(depth, colour, *chunks, interlaced=interlaced)
            if transparent:
                chunks.append((b"tRNS", transparent))
                encoded = png(depth, colour, *chunks, interlaced=interlaced)
                yield f"{name}, transparent.png", encoded
    gamma = [(b"gAMA", (100000).to_bytes(4, "big")), (b"pHYs", bytes(9))]
    yield "gamma.png", png(8, 2, *gamma)
    yield "bytes after its end.png", png(8, 2) + b"garbage" * 9


def jpegs():
    colour = Image.fromarray(gradient((37, 51)))
    colour.paste(Image.effect_noise((30, 20), 90), (9, 9))
    cmyk = encode(colour.convert("CMYK"), "jpeg")
    ycbcr = encode(colour, "jpeg")
    yield "grey.jpg", encode(colour.convert("L"), "jpeg")
    yield "cmyk.jpg", cmyk
    yield "ycck.jpg", with_transform(cmyk, 2)
    yield "cmyk without a marker.jpg", without_adobe(cmyk)
    rgb = encode(colour, "jpeg", keep_rgb=True)
    yield "rgb.jpg", rgb
    yield "bytes after its end.jpg", ycbcr + b"garbage" * 9
    yield (
        "a second image after it.jpg",
        encode(colour, "MPO", save_all=True, append_images=[colour.rotate(90)]),
    )
    for subsampling, progressive in itertools.product(range(3), (False, True)):
        for size in ((1, 1), (2, 3), (51, 37), (16, 16)):
            encoded = encode(
                colour.resize(size),
                "jpeg",
                subsampling=subsampling,
                progressive=progressive,
            )
            yield f"{subsampling=}, {progressive=}, {size}.jpg", encoded
    yield "restarts.jpg", encode(colour, "jpeg", restart_marker_blocks=2)


def with_transform(jpeg, transform):
    """The JPEG with another colour transform in its Adobe marker."""
    place = jpeg.index(b"Adobe") + 11
    return jpeg[:place] + bytes([transform]) + jpeg[place + 1 :]


def without_adobe(jpeg):
    place = jpeg.index(b"\xff\xee\0\x0eAdobe")
    return jpeg[:place] + jpeg[place + 16 :]


def gifs():
    colour = Image.fromarray(gradient())
    palette = colour.quantize(200)
    for interlace in (False, True):
        yield f"{interlace=}.gif", encode(palette, "gif", interlace=interlace)
    yield "transparent.gif", encode(palette, "gif", transparency=7)
    yield "grey.gif", encode(colour.convert("L"), "gif")
    yield "bilevel.gif", encode(colour.convert("1"), "gif")
    for disposal in range(4):
        frames = [colour.rotate(90).quantize(9), colour.quantize(17)]
        options = {"save_all": True, "append_images": frames, "disposal": disposal}
        animated = encode(palette, "gif", transparency=3, **options)
        yield f"animated, {disposal=}.gif", animated
    yield "its second frame cut short.gif", animated[: len(animated) * 3 // 4]
    part = gif_that_covers_a_part()
    yield "part of its canvas.gif", part
    frame = part.index(b",", 13 + 3 * 256)
    control = b"!\xf9\4\1\0\0\7\0"
    yield "part, transparent.gif", part[:frame] + control + part[frame:]


def bmps():
    colour = Image.fromarray(gradient((9, 7)))
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"{mode}.bmp", encode(colour.convert(mode), "bmp")
    plain = encode(colour, "bmp")
    yield "bytes after its pixels.bmp", plain + bytes(2)
    downwards = struct.pack("<i", -9)
    yield "top-down.bmp", plain[:22] + downwards + plain[26:]
    # A gap between the header and the pixels, as of a palette that is not used.
    offset = struct.pack("<II", len(plain) + 40, 0) + struct.pack("<I", 54 + 40)
    yield "gap.bmp", b"BM" + offset + plain[14:54] + bytes(40) + plain[54:]
    masks = {
        32: [(0xFF0000, 0xFF00, 0xFF), (0xFF000000, 0xFF0000, 0xFF00)],
        24: [(0xFF0000, 0xFF00, 0xFF)],
        16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)],
    }
    for bits, orders in masks.items():
        for order in orders:
            name = f"{bits} bits, masks {order}.bmp"
            yield name, bmp(bits, 3, struct.pack("<3I", *order))
    yield "16 bits.bmp", bmp(16, 0)
    yield "32 bits.bmp", bmp(32, 0)
    run = bytes([7, 1, 0, 0]) * 3 + bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 0, 0, 0])
    palette = bytes([0, 0, 255, 0, 0, 255, 0, 0])
    yield "rle.bmp", bmp(8, 1, palette, run + bytes([0, 1]))


def bmp(bits, compression, after_header=b"", rows=None):
    """BMP of 7 x 4 pixels, random unless their rows are given."""
    stride = (7 * bits + 31) // 32 * 4
    rows = np.random.default_rng(0).bytes(4 * stride) if rows is None else rows
    used = 2 if compression == 1 else 0
    sizes = (len(rows), 0, 0, used, 0)
    header = struct.pack("<IiiHHIIiiII", 40, 7, 4, 1, bits, compression, *sizes)
    offset = 14 + len(header) + len(after_header)
    start = struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return b"BM" + start + header + after_header + rows


def webps():
    transparent = Image.fromarray(gradient()).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    for mode, lossless in itertools.product(("RGB", "RGBA", "L"), (False, True)):
        encoded = encode(transparent.convert(mode), "webp", lossless=lossless)
        yield f"{mode}, {lossless=}.webp", encoded
        frames = {"save_all": True, "append_images": [transparent.rotate(90)]}
        encoded = encode(transparent.convert(mode), "webp", lossless=lossless, **frames)
        yield f"animated {mode}, {lossless=}.webp", encoded
    exact = encode(transparent, "webp", lossless=True, exact=True)
    yield "colours below transparency.webp", exact


def tiffs():
    colour = Image.fromarray(gradient((19, 23)))
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
    for mode in modes:
        yield f"{mode}.tif", encode(colour.convert(mode), "tiff")
    for method in ("lzw", "adobe_deflate", "jpeg"):
        for mode in ("L", "RGB", "YCbCr" if method == "jpeg" else "RGBA"):
            encoded = encode(colour.convert(mode), "tiff", compression=f"tiff_{method}")
            yield f"{mode}, {method}.tif", encoded
    for method in ("group3", "group4", "packbits"):
        yield f"{method}.tif", encode(colour.convert("1"), "tiff", compression=method)
    pages = {"save_all": True, "append_images": [colour.convert("L")]}
    yield "pages.tif", encode(colour, "tiff", **pages)
    yield "big.tif", encode(colour, "tiff", big_tiff=True)
    sixteen = np.random.default_rng(0).integers(0, 2**16, (19, 23), dtype=np.uint16)
    yield "16 bits.tif", encode(Image.fromarray(sixteen), "tiff")
    yield (
        "16 bits, big-endian.tif",
        encode(Image.fromarray(sixteen.astype(">u2")), "tiff"),
    )
    for order, planes in itertools.product("<>", (1, 2)):
        yield f"{order=}, {planes=}.tif", tiff(order, 8, 3, planes)
    yield "16 bits of colour.tif", tiff("<", 16, 3, 1)
    yield "tiles.tif", tiff("<", 8, 3, 1, tiles=True)
    for bits, photometric in itertools.product((1, 2, 4, 8), (0, 1)):
        yield f"{bits} bits, {photometric=}.tif", tiff("<", bits, 1, 1, photometric)


def tiff(order, bits, samples, planes, photometric=None, tiles=False):
    """TIFF of 16 x 16 random pixels, not compressed."""
    pixels = np.random.default_rng(0).bytes(16 * 16 * samples * bits // 8)
    parts = samples if planes == 2 else 1
    length = len(pixels) // parts
    photometric = (2 if samples == 3 else 1) if photometric is None else photometric
    tags = {256: [16], 257: [16], 258: [bits] * samples, 259: [1], 262: [photometric]}
    tags |= {277: [samples], 284: [planes]}
    places = [8 + length * part for part in range(parts)]
    if tiles:
        tags |= {322: [16], 323: [16], 324: places, 325: [length] * parts}
    else:
        tags |= {273: places, 278: [16], 279: [length] * parts}
    body = pixels
    entries = b""
    for tag, values in sorted(tags.items()):
        stored = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place, body = 8 + len(body), body + stored
            stored = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + stored
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    signature = b"II*\0" if order == "<" else b"MM\0*"
    return signature + struct.pack(f"{order}I", 8 + len(body)) + body + directory


def ppms():
    rng = np.random.default_rng(0)
    for kind, samples in ((b"1", 1), (b"2", 1), (b"3", 3), (b"5", 1), (b"6", 3)):
        for most in (1,) if kind == b"1" else (1, 15, 255, 1023, 65535):
            values = rng.integers(0, most + 1, 5 * 7 * samples)
            header = b"P%s # a comment\n7 5\n" % kind
            if kind != b"1":
                header += b"%d\n" % most
            if kind in b"123":
                body = " ".join(map(str, values)).encode()
            else:
                body = values.astype(">u2" if most > 255 else np.uint8).tobytes()
            yield f"kind {kind.decode()}, {most}.pnm", header + body
    yield "bits.pbm", b"P4 7 5\n" + rng.bytes(5)


def photos():
    """AVIF and HEIC where Pillow and its plug-in write them."""
    colour = Image.fromarray(gradient((20, 30)))
    forms = ["avif"] * features.check("avif") + ["heif"] * ("HEIF" in Image.SAVE)
    for form, mode in itertools.product(forms, ("L", "RGB", "RGBA")):
        yield f"{mode}.{form}", encode(colour.convert(mode), form)


def turned():
    """Images of the formats that keep an orientation, in all of its values."""
    colour = Image.fromarray(gradient((20, 31)))
    forms = ["jpeg", "png", "webp", "tiff"] + ["avif"] * features.check("avif")
    for form, value in itertools.product(forms, range(10)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = value
        yield f"{form} of orientation {value}.{form}", encode(colour, form, exif=exif)
        name = f"grey {form} of orientation {value}.{form}"
        yield name, encode(colour.convert("L"), form, exif=exif)


# Format -> its images: pairs of a name and of bytes.
WRITERS = {
    "PNG": pngs,
    "JPEG": jpegs,
    "GIF": gifs,
    "BMP": bmps,
    "WebP": webps,
    "TIFF": tiffs,
    "PPM": ppms,
    "AVIF and HEIC": photos,
    "EXIF orientation": turned,
}
