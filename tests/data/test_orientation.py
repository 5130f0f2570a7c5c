"""Images and their crops are turned as Pillow's `exif_transpose` turns them."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from byol_keras.data import decoding, image_bytes, image_folder, orientation

from support.datasets import write
from support.images import encode, gradient

PHOTO = Image.fromarray(gradient((23, 38)))
PHOTO.paste(Image.effect_noise((20, 10), 90), (9, 9))


def exif_of(number, endian="<"):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker"
    exif[0x0112] = number
    return exif


def as_turned(encoded, mode="RGB"):
    """What Pillow decodes and turns."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


@functools.cache
def traced_crops(channels):
    """`decode_crops` in a graph, which is traced once for all images."""
    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([3, 4], tf.int32)]
    return tf.function(
        lambda data, boxes: decoding.decode_crops(data, tf.unstack(boxes), channels),
        input_signature=signature,
    )


def assert_is_upright(encoded, channels=3):
    """`decode`, `shape` and `decode_crops` agree with Pillow, and with each other."""
    data = image_bytes.readable(encoded)
    found = decoding.decode(data, channels).numpy()
    expected = as_turned(encoded, "L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(found.squeeze(), expected, strict=True)
    assert decoding.shape(data, channels).numpy().tolist() == list(found.shape)
    height, width, _ = found.shape
    boxes = [[0, 0, height, width], [3, 5, 7, 9], [height - 1, width - 1, 1, 1]]
    crops = traced_crops(channels)(data, tf.constant(boxes))
    for (top, left, h, w), crop in zip(boxes, crops, strict=True):
        np.testing.assert_array_equal(crop, found[top : top + h, left : left + w])


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff", "avif", "heif"])
def test_images_are_turned_as_pillow_turns_them(form, number, endian):
    if form == "heif":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif form == "avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    options = {"lossless": True} if form == "webp" else {}
    assert_is_upright(encode(PHOTO, form, exif=exif_of(number, endian), **options))


@pytest.mark.parametrize("number", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("form", "mode"),
    [("jpeg", "L"), ("jpeg", "CMYK")]
    + [("png", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")],
)
def test_images_of_all_modes_are_turned(form, mode, number):
    image = PHOTO.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8)
    encoded = encode(image, form, exif=exif_of(number))
    if mode == "CMYK":
        # Pillow converts it in another way than libjpeg.
        plain = decoding.decode(encode(image, form), 3)
        found = decoding.decode(image_bytes.readable(encoded), 3)
        np.testing.assert_array_equal(found, orientation.turned(plain, number))
    elif mode == "I;16":
        found = decoding.decode(image_bytes.readable(encoded), 1).numpy()[..., 0]
        with Image.open(io.BytesIO(encoded)) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(found, upright >> 8)
    else:
        assert_is_upright(encoded, 1 if mode in ("1", "L", "LA") else 3)


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def test_segments_before_that_of_exif_are_skipped():
    plain, exif = encode(PHOTO, "jpeg"), exif_of(6).tobytes()
    thumbnail = segment(0xE0, b"JFXX\0\x13\2\2" + bytes(12))
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))
    for before in (b"", thumbnail, profile, profile + segment(0xFE, b"Exif\0\0")):
        end_of_jfif = 20
        parts = [plain[:end_of_jfif], before, segment(0xE1, exif), plain[end_of_jfif:]]
        assert_is_upright(b"".join(parts))
        assert image_bytes.orientation_of(b"".join(parts)) == 6


def test_orientation_in_xmp_counts_without_exif():
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8"/>'
    jpeg = encode(PHOTO, "jpeg")
    jpeg = (
        jpeg[:20] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp) + jpeg[20:]
    )
    assert_is_upright(jpeg)
    assert image_bytes.orientation_of(jpeg) == 8


def chunk(name, body):
    return (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
    )


def test_exif_after_the_pixels_of_a_png_counts():
    png = encode(PHOTO, "png")
    png = png[:-12] + chunk(b"eXIf", exif_of(5).tobytes()[6:]) + png[-12:]
    assert_is_upright(png)
    assert image_bytes.orientation_of(png) == 5


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_exif_is_no_error_and_turns_as_pillow_does(data):
    exif = bytearray(exif_of(6, data.draw(st.sampled_from("<>"))).tobytes())
    for place in data.draw(st.lists(st.integers(6, len(exif) - 1), max_size=4)):
        exif[place] = data.draw(st.integers(0, 255))
    exif = bytes(exif[: data.draw(st.integers(6, len(exif)))])
    plain = encode(PHOTO, "jpeg")
    encoded = plain[:20] + segment(0xE1, exif) + plain[20:]
    found = decoding.decode(image_bytes.readable(encoded), 3)
    try:
        expected = as_turned(encoded)
    except Exception:  # Pillow raises many kinds for bad EXIF data
        expected = np.asarray(Image.open(io.BytesIO(plain)))
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_box_of_the_stored_image_holds_the_pixels_of_the_upright_box(data):
    number = data.draw(st.integers(1, 8))
    stored = tf.reshape(tf.range(7 * 11), [7, 11, 1])
    upright = orientation.turned(stored, number)
    height, width, _ = upright.shape
    assert orientation.upright_size((7, 11), number) == (height, width)
    top, left = (
        data.draw(st.integers(0, height - 1)),
        data.draw(st.integers(0, width - 1)),
    )
    h, w = (
        data.draw(st.integers(1, height - top)),
        data.draw(st.integers(1, width - left)),
    )
    box = orientation.stored_box(
        tf.constant([top, left, h, w]), tf.constant([height, width]), number
    )
    crop = stored[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    expected = upright[top : top + h, left : left + w]
    np.testing.assert_array_equal(orientation.turned(crop, number), expected)


def test_upright_files_are_not_touched():
    for form in ("jpeg", "png", "webp"):
        for options in ({}, {"exif": exif_of(1)}):
            encoded = encode(PHOTO, form, **options)
            assert image_bytes.readable(encoded) is encoded


def test_folder_is_read_upright_unless_it_is_switched_off(tmp_path):
    forms = ("jpeg", "png", "webp")
    for form in forms:
        options = {"lossless": True} if form == "webp" else {}
        image = encode(PHOTO, form, exif=exif_of(6), **options)
        write(tmp_path / f"{form}.{form}", image)
        write(tmp_path / f"plain.{form}", encode(PHOTO, form, **options))
    for is_on in (True, False):
        source = image_folder(tmp_path, exif_orientation=is_on)
        turns = [6, 1, 1, 1, 6, 6] if is_on else [1] * 6
        for _ in range(2):  # the first time, files are examined
            read = dict(zip(source.names, source.ordered(), strict=True))
            for (name, example), number in zip(read.items(), turns, strict=True):
                form = name.partition(".")[2]
                plain = read[f"plain.{form}"]["image"]
                expected = orientation.turned(plain, number)
                np.testing.assert_array_equal(example["image"], expected)
        subset = source.subset(np.array([0]), "one")
        (example,) = subset.ordered()
        np.testing.assert_array_equal(example["image"], read["jpeg.jpeg"]["image"])


def test_digest_depends_on_how_images_are_read(tmp_path):
    write(tmp_path / "1.jpg", encode(PHOTO, "jpeg"))
    options = ({}, {"exif_orientation": False}, {"bits": 12}, {"bits": 10})
    digests = [image_folder(tmp_path, **given).digest() for given in options]
    assert len(set(digests)) == len(options)
    explicit = image_folder(tmp_path, exif_orientation=True, bits=None)
    assert explicit.digest() == digests[0]


@pytest.mark.parametrize("value", [None, 1, "no"])
def test_switch_is_a_bool(tmp_path, value):
    write(tmp_path / "1.jpg", encode(PHOTO, "jpeg"))
    with pytest.raises(ValueError, match=r"exif_orientation must be a bool. Received"):
        image_folder(tmp_path, exif_orientation=value)


def test_file_that_is_replaced_by_one_of_another_orientation_is_turned(tmp_path):
    source = None
    for number in (1, 6, 8, 1):
        write(tmp_path / "1.jpg", encode(PHOTO, "jpeg", exif=exif_of(number)))
        source = source or image_folder(tmp_path)
        for _ in range(2):
            (example,) = source.ordered()
            expected = as_turned((tmp_path / "1.jpg").read_bytes())
            np.testing.assert_array_equal(example["image"], expected)


def test_views_are_crops_of_the_upright_image(tmp_path):
    import byol_keras as bk

    write(tmp_path / "1.jpg", encode(PHOTO, "jpeg", exif=exif_of(6)))
    upright = encode(
        Image.fromarray(as_turned((tmp_path / "1.jpg").read_bytes())), "png"
    )
    write(tmp_path / "upright" / "1.png", upright)
    views = []
    for folder in (tmp_path / "upright", tmp_path):
        if folder == tmp_path:
            (tmp_path / "upright" / "1.png").unlink()
        layers = [bk.RandomResizedCrop(size=16)]
        data = image_folder(folder)
        (batch,) = bk.TwoViews(layers, layers).dataset(data, 1, seed=0).take(1)
        views.append(batch)
    for expected, found in zip(*views, strict=True):
        np.testing.assert_array_equal(found, expected)
