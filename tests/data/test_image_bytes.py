"""Every flaw of an image file has its reason; only odd formats are converted."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, features

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
    *(name for name in images.ODD if name.endswith((".gif", ".tif", "m"))),
}


@pytest.mark.parametrize("name", images.ODD)
def test_only_what_tensorflow_cannot_read_is_converted(name):
    encoded, _ = images.ODD[name]
    found = image_bytes.readable(encoded)
    assert (found != encoded) == (name in CONVERTED)


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


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_bmp_of_any_masks_is_read_as_pillow_does_or_not_at_all(header, bits):
    orders = [(31744, 992, 31), (63488, 2016, 31), (31, 992, 31744)]
    if bits == 32:
        places = itertools.permutations(range(4), 3)
        orders = [[0xFF << 8 * place for place in order] for order in places]
    for masks in orders:
        rest = (2**bits - 1) ^ sum(masks)
        for alpha in (0, rest):
            encoded = bmp_of_masks(header, bits, [*masks, alpha])
            try:
                expected = images.as_pillow_reads(encoded)
            except OSError as error:
                reason = f"BMP that Pillow cannot read ({error})"
                assert image_bytes.flaw_of(encoded) == reason
            else:
                found = decoding.decode(image_bytes.readable(encoded), 3)
                np.testing.assert_array_equal(found, expected)


def bmp_of_masks(header, bits, masks):
    """BMP of random pixels and of an information header of `header` bytes."""
    rows = np.random.default_rng(0).bytes(6 * 4 * bits // 8)
    fixed = struct.pack("<IiiHHIIiiII", header, 6, 4, 1, bits, 3, len(rows), 0, 0, 0, 0)
    count = {40: 3, 52: 3}.get(header, 4)
    fields = struct.pack(f"<{count}I", *masks[:count])
    fields += bytes(max(0, header - 40 - len(fields)))
    offset = 14 + len(fixed) + len(fields)
    start = struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return b"BM" + start + fixed + fields + rows


def tiff_of_12_bits(values):
    """Grey TIFF with 12 bits per pixel, packed: two pixels in three bytes."""
    bits = "".join(f"{value:012b}" for value in values)
    strip = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, len(values)), (257, 1), (258, 12), (259, 1), (262, 1)]
    tags += [(273, 8), (277, 1), (278, 1), (279, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    place = 8 + len(strip)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", place) + strip + directory


def test_the_upper_8_of_12_bits_are_kept():
    values = [0, 15, 16, 255, 2048, 4095]
    encoded = tiff_of_12_bits(values)
    assert image_bytes.flaw_of(encoded) is None
    pixels = decoding.decode(image_bytes.readable(encoded), 1).numpy()
    assert pixels.ravel().tolist() == [value >> 4 for value in values]
    assert image_bytes.bits_of(encoded) == 12


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("form", ["avif", "heif"])
def test_avif_and_heic_are_read_where_pillow_can(form, mode):
    if form == "heif":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    image = Image.fromarray(images.gradient()).convert(mode)
    encoded = images.encode(image, form)
    assert image_bytes.flaw_of(encoded) is None
    pixels = decoding.decode(image_bytes.readable(encoded), 3).numpy()
    np.testing.assert_array_equal(pixels, images.as_pillow_reads(encoded))


def test_a_format_without_a_reader_is_named(monkeypatch):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    monkeypatch.setattr(image_bytes, "SUFFIXES", {"JPEG": (".jpg",)})
    flaw = image_bytes.flaw_of(heic)
    assert flaw == "HEIC, which the installed Pillow cannot read"


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("16 bit.png", 16),
        ("16 bit.tif", 16),
        ("16 bit.pgm", 16),
        ("rgb.tif", 8),
        ("rgb.ppm", 8),
        ("cmyk.jpg", 8),
        ("a PNG named.jpg", 8),
    ],
)
def test_bits_are_those_of_the_file(name, bits):
    assert image_bytes.bits_of(images.ODD[name][0]) == bits


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
        (b"P6\n2 2\n", "PPM"),
        (b"P7\n", None),
        (b"PNG is", None),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", None),
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
    assert decoding.shape(found, 3).numpy().tolist() == [8, 7, 3]
