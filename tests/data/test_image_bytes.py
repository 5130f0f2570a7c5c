"""Every flaw of an image file has its reason; only odd formats are converted."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import decoding, image_bytes

from support import images
from support.datasets import random_image


@pytest.mark.parametrize("name", images.BROKEN)
def test_broken_image_has_a_reason(name):
    encoded, expected = images.BROKEN[name]
    flaw = image_bytes.flaw_of(encoded)
    assert flaw
    assert expected in (None, flaw)


@pytest.mark.parametrize("name", images.ODD)
def test_odd_image_has_no_flaw(name):
    for channels in (1, 3):
        assert image_bytes.flaw_of(images.ODD[name][0], channels) is None


CONVERTED = {
    "a TIFF named.png",
    "palette.bmp",
    "bilevel.bmp",
    "animated.webp",
    *(name for name in images.ODD if name.endswith(".tif")),
}


@pytest.mark.parametrize("name", images.ODD)
def test_only_what_tensorflow_cannot_read_is_converted(name):
    encoded, _ = images.ODD[name]
    found = image_bytes.readable(encoded)
    assert (found != encoded) == (name in CONVERTED)
    in_graph = tf.function(image_bytes.readable_in_graph)(tf.constant(encoded))
    assert in_graph.numpy() == found


def animation_of_one_frame(pixels):
    """WebP: an animation whose only frame fills the canvas."""

    def number(value):
        return struct.pack("<I", value)[:3]

    def chunk(name, content):
        return (
            name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        )

    height, width, _ = pixels.shape
    still = images.encode(Image.fromarray(pixels), "webp", lossless=True)
    sides = number(width - 1) + number(height - 1)
    frame = bytes(6) + sides + number(100) + b"\0" + still[12:]
    body = chunk(b"VP8X", bytes([2, 0, 0, 0]) + sides)
    body += chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", frame)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def test_an_animation_of_one_frame_is_converted():
    pixels = random_image(np.random.default_rng(0))
    found = image_bytes.readable(animation_of_one_frame(pixels))
    np.testing.assert_array_equal(decoding.decode(found, 3), pixels)


def bmp_of_bit_fields(pixels, order):
    """BMP of 32 bits whose masks put the channels at the given byte of a pixel."""
    height, width, _ = pixels.shape
    stored = np.full((height, width, 4), 255, np.uint8)
    stored[..., list(order)] = pixels
    masks = [0xFF << 8 * place for place in order]
    masks.append(0xFF << 8 * (6 - sum(order)))
    rows = stored[::-1].tobytes()
    offset = 14 + 108
    header = struct.pack(
        "<IiiHHIIiiII4I", 108, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0, *masks
    )
    header += bytes(108 - len(header))
    size = struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return b"BM" + size + header + rows


@pytest.mark.parametrize(
    ("order", "converted"), [((2, 1, 0), False), ((0, 1, 2), True)]
)
def test_masks_of_bmp_are_followed(order, converted):
    pixels = random_image(np.random.default_rng(0))
    encoded = bmp_of_bit_fields(pixels, order)
    found = image_bytes.readable(encoded)
    assert (found != encoded) == converted
    np.testing.assert_array_equal(decoding.decode(found, 3), pixels)
    with Image.open(io.BytesIO(encoded)) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


@pytest.mark.parametrize("form", ["gif", "bmp", "webp", "tiff", "png", "jpeg"])
def test_size_is_checked_before_an_image_is_decoded(form, monkeypatch):
    encoded = images.encode(Image.fromarray(images.gradient()), form)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    monkeypatch.setattr(decoding, "decode", None)
    assert image_bytes.flaw_of(encoded) == "48 x 64 pixels, more than 1,000 in all"


@pytest.mark.parametrize("form", ["gif", "bmp", "webp", "tiff", "png", "jpeg"])
def test_a_header_cut_short_is_damage(form):
    encoded = images.encode(Image.fromarray(images.gradient()), form)
    assert "that is damaged or cut short" in image_bytes.flaw_of(encoded[:20])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"GIF89a", "GIF"),
        (b"MM\0*", "TIFF"),
        (b"", None),
    ],
)
def test_format_is_found_by_the_first_bytes(data, kind):
    assert image_bytes.format_of(data) == kind


def test_a_large_tiff_is_reduced_as_its_shape_says(monkeypatch):
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 100)
    encoded = images.encode(Image.fromarray(np.full((15, 14, 3), 80, np.uint8)), "tiff")
    found = image_bytes.readable(encoded)
    assert decoding.png_size(found).numpy().tolist() == [8, 7]
