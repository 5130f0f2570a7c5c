"""Images for tests: random ones, odd files and broken files, and augmented views."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.views.augmentations import SEMANTICS

ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))

both_semantics = pytest.mark.parametrize("semantics", SEMANTICS)


def noise(*shape, seed=0):
    """float32 in 0..1, 1 excluded, of the given shape."""
    return np.random.default_rng(seed).random(shape, np.float32)


def augmented(layer, images, *draws):
    """`layer` on a batch with the same draws for every image, as NumPy."""
    uniforms = np.tile(np.array([draws], np.float32), (len(images), 1))
    return layer.augment(tf.constant(images, tf.float32), tf.constant(uniforms)).numpy()


def one_pixel(layer, rgb, *draws):
    return augmented(layer, np.reshape(rgb, (1, 1, 1, -1)), *draws)[0, 0, 0]


def varied(number=24, size=(20, 24), channels=3):
    """Noise, smooth waves, greys and constants, float32 in 0..1."""
    found = noise(number, *size, channels)
    waves = np.sin(np.linspace(0, 9, size[1]) + np.arange(channels)[:, None]).T
    found[: number // 2] = 0.5 + 0.5 * waves + 0.02 * found[: number // 2]
    found[0], found[1], found[2] = 0.0, 1.0, found[2, ..., :1]
    return np.clip(found, 0, 1).astype(np.float32)


SIZE = (48, 64)
# 0, 1, 2, 13, 14 and 15 of 15.
DECIMAL = np.array([[[0, 17, 34], [221, 238, 255]]], np.uint8)


def gradient(size=SIZE, channels=3):
    """A smooth image, uint8 `[h, w, channels]`, that every format keeps well."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    planes = (x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width))
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def encode(image, form, **options):
    """Bytes of a Pillow image in a format."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def luma(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"))


def gif_that_covers_a_part(canvas=(90, 60), corner=(7, 5)):
    """GIF whose only frame, of the pixels of `gradient()`, does not fill its canvas."""
    gif = bytearray(encode(Image.fromarray(gradient()).quantize(256), "gif"))
    gif[6:10] = struct.pack("<HH", *canvas)
    frame = 13 + 3 * 2 ** ((gif[10] & 7) + 1)  # after the header and its palette
    gif[frame + 1 : frame + 5] = struct.pack("<HH", *corner)
    return bytes(gif)


def as_pillow_reads(encoded):
    """uint8 `[h, w, 3]`: the first frame."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def _odd():
    pixels = gradient()
    colour, grey = Image.fromarray(pixels), Image.fromarray(luma(pixels))
    frames = {"save_all": True, "append_images": [colour.rotate(180)]}
    sixteen = luma(pixels).astype(np.uint16) * 256 + 7
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    cmyk, ycbcr = colour.convert("CMYK"), colour.convert("YCbCr")
    repeated = np.repeat(luma(pixels)[..., None], 3, axis=-1)
    in_palette = np.asarray(palette.convert("RGB"))
    gif, part = encode(colour, "gif", **frames), gif_that_covers_a_part()
    bilevel = encode(grey.convert("1"), "ppm")
    return {
        "cmyk.jpg": (encode(cmyk, "jpeg", quality=100), pixels),
        "progressive.jpg": (encode(colour, "jpeg", progressive=True), pixels),
        "a JPEG named.png": (encode(colour, "jpeg"), pixels),
        "a PNG named.jpg": (encode(colour, "png"), pixels),
        "a TIFF named.png": (encode(colour, "tiff"), pixels),
        "16 bit.png": (encode(Image.fromarray(sixteen), "png"), repeated),
        "palette.png": (encode(palette, "png"), in_palette),
        "palette.bmp": (encode(palette, "bmp"), in_palette),
        "bilevel.bmp": (encode(grey.convert("1"), "bmp"), None),
        "grey and alpha.png": (encode(grey.convert("LA"), "png"), repeated),
        "animated.gif": (gif, as_pillow_reads(gif)),
        "part of its canvas.gif": (part, as_pillow_reads(part)),
        "renamed JPEG.jfif": (encode(colour, "jpeg"), pixels),
        "rgb.ppm": (encode(colour, "ppm"), pixels),
        "grey.pgm": (encode(grey, "ppm"), repeated),
        "16 bit.pgm": (encode(Image.fromarray(sixteen), "ppm"), repeated),
        "bilevel.pbm": (bilevel, as_pillow_reads(bilevel)),
        "decimal.pnm": (b"P3 2 1 15\n0 1 2  13 14 15\n", DECIMAL),
        "animated.webp": (encode(colour, "webp", lossless=True, **frames), pixels),
        "transparent.webp": (
            encode(colour.convert("RGBA"), "webp", lossless=True),
            pixels,
        ),
        "pixel.png": (encode(colour.crop((5, 5, 6, 6)), "png"), pixels[5:6, 5:6]),
        "pixel.jpg": (encode(colour.crop((5, 5, 6, 6)), "jpeg"), None),
        "rgb.tif": (encode(colour, "tiff"), pixels),
        "rgba.tif": (encode(colour.convert("RGBA"), "tiff"), pixels),
        "grey.tif": (encode(grey, "tiff"), repeated),
        "bilevel.tif": (encode(grey.convert("1"), "tiff"), None),
        "palette.tif": (encode(palette, "tiff"), in_palette),
        "16 bit.tif": (encode(Image.fromarray(sixteen), "tiff"), repeated),
        "cmyk.tif": (encode(cmyk, "tiff"), np.asarray(cmyk.convert("RGB"))),
        "ycbcr.tif": (encode(ycbcr, "tiff"), np.asarray(ycbcr.convert("RGB"))),
        "pages.tif": (encode(colour, "tiff", **frames), pixels),
    }


def _broken():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    jpeg, png = encode(noise, "jpeg"), encode(noise, "png")
    large = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (50_000).to_bytes(4, "big")
    damaged = "that is damaged or cut short"
    return {
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"<html>404</html>", "no image: begins with b'<html>404</h'"),
        "half.jpg": (jpeg[: len(jpeg) // 2], f"JPEG {damaged}"),
        "without an end.jpg": (jpeg[:-2], f"JPEG {damaged}"),
        "header only.jpg": (jpeg[:200], f"JPEG {damaged}"),
        "half.png": (png[: len(png) // 2], f"PNG {damaged}"),
        "flipped bit.png": (png[:500] + bytes([png[500] ^ 1]) + png[501:], None),
        "half.gif": (encode(noise, "gif")[:900], f"GIF {damaged}"),
        "half.bmp": (encode(noise, "bmp")[:900], f"BMP {damaged}"),
        "half.webp": (encode(noise, "webp")[:900], f"WebP {damaged}"),
        "half.tif": (encode(noise, "tiff")[:900], f"TIFF {damaged}"),
        "float.tif": (
            encode(Image.fromarray(np.zeros(SIZE, np.float32)), "tiff"),
            "32 bits or signed values, whose range is unknown",
        ),
        "bomb.png": (
            large + bytes(100),
            "50000 x 50000 pixels, more than 134,217,728 in all",
        ),
    }


# Name -> bytes, and the pixels in RGB where they are known.
ODD = _odd()
# Name -> bytes, and the reason where it is known.
BROKEN = _broken()


def write_all(folder, files):
    """Writes files of bytes by name, and returns their paths as strings."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return [str(folder / name) for name in files]
