"""Images and masks from files: bad masks are left out, digests follow the content."""

import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from byol_keras.benchmarks.segmentation.dataset import voc_segmentation
from byol_keras.benchmarks.segmentation.examples import UNKNOWN, describe

from support.scenes import make_scenes, write_vocdevkit

SCENES = make_scenes(6, size=(24, 32))


@pytest.fixture
def voc(tmp_path):
    """Two images in each of three splits."""
    splits = {"train": SCENES[:2], "val": SCENES[2:4], "rest": SCENES[4:]}
    write_vocdevkit(tmp_path, {"2012": splits})
    return tmp_path


def test_bad_masks_are_left_out_with_their_reasons(voc):
    data = voc_segmentation(voc, splits=("train", "val", "rest"))
    masks = data.masks
    with open(masks[0], "wb") as file:
        file.write(b"no picture")
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(masks[2])
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(masks[4])
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(masks[5])
    good, bad = data.without_bad_masks()
    assert good.masks == (masks[1], masks[3])
    assert good.images == (data.images[1], data.images[3])
    reasons = ["is unreadable", "of shape (3, 5)", "with value 77", "(24, 32, 3)"]
    assert all(reason in line for reason, line in zip(reasons, bad, strict=True))
    assert describe(bad).startswith("4 bad masks left out: ")
    assert "\n" not in describe(bad)


@pytest.mark.parametrize("harm", ["truncated", "no image", "only a header", "pipe"])
def test_mask_of_an_image_that_cannot_be_decoded_is_left_out(voc, harm):
    data = voc_segmentation(voc, splits=("train", "val"))
    path = pathlib.Path(data.images[1])
    content = path.read_bytes()
    if harm == "truncated":
        content = content[: len(content) // 2]
    elif harm == "no image":
        content = b"no image"
    else:
        content = b"\xff\xd8\xff\xe0" + bytes(100)
    if harm == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    good, (line,) = data.without_bad_masks()
    assert len(good.images) == 3
    assert data.images[1] not in good.images
    assert line.startswith(f"{data.masks[1]} is on an unreadable image, {path} (")
    assert len(list(good.rows().ordered())) == 3


def gray_png(values, bits):
    """A gray PNG file of 1, 2, 4 or 8 bits per pixel."""
    shifts = np.arange(bits - 1, -1, -1)
    planes = (values[..., None] >> shifts & 1).astype(np.uint8)
    rows = np.packbits(planes.reshape(len(values), -1), axis=1)
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = b""
    for name, content in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        chunks += struct.pack(">I", len(content)) + name + content + checksum
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_of_a_gray_mask_are_those_of_its_bits(voc, bits):
    data = voc_segmentation(voc, splits=("train",))
    values = np.random.default_rng(0).integers(0, min(2**bits, 21), (24, 32))
    pathlib.Path(data.masks[0]).write_bytes(gray_png(values, bits))
    assert data.problem(0) is None
    _, mask = data.read(0)
    np.testing.assert_array_equal(mask, values)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_of_a_mask_with_a_palette_are_its_indices(voc, bits):
    data = voc_segmentation(voc, splits=("train",))
    values = np.random.default_rng(0).integers(0, min(2**bits, 21), (24, 32))
    picture = Image.fromarray(values.astype(np.uint8)).convert("P")
    picture.putpalette([7] * 3 * 2**bits)
    picture.save(data.masks[0], bits=bits)
    np.testing.assert_array_equal(data.read(0)[1], values)


def test_mask_of_floats_is_left_out(voc):
    data = voc_segmentation(voc, splits=("train",))
    Image.fromarray(np.zeros((24, 32), np.float32)).save(data.masks[0], "tiff")
    assert data.problem(0) == "of values of float32"


def test_data_without_a_good_mask_are_one_line(voc):
    data = voc_segmentation(voc, splits=("train",))
    for mask in data.masks:
        Image.fromarray(np.full((24, 32), 77, np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"good masks.*value 77$"):
        data.without_bad_masks()


def test_digest_changes_with_a_mask_and_with_the_order(voc):
    forth = voc_segmentation(voc, splits=("train", "val"))
    back = voc_segmentation(voc, splits=("val", "train"))
    first = forth.digest()
    assert first == voc_segmentation(voc, splits=("train", "val")).digest()
    assert first != back.digest()
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(forth.masks[0])
    assert first != forth.digest()


def test_rows_are_images_and_masks_in_their_order(voc):
    data = voc_segmentation(voc, splits=("val",))
    found = list(data.rows().ordered().as_numpy_iterator())
    assert len(found) == 2
    for example, scene in zip(found, SCENES[2:4], strict=True):
        assert example["image"].shape == (24, 32, 3)
        assert example["image"].dtype == np.uint8
        np.testing.assert_array_equal(example["mask"], scene.semantic)


def test_palette_image_is_read_as_three_channels_and_mask_as_numbers(voc):
    data = voc_segmentation(voc, splits=("train",))
    assert Image.open(data.masks[0]).mode == "P"
    image, mask = data.read(0)
    assert image.shape == (24, 32, 3)
    assert mask.shape == (24, 32)
    assert UNKNOWN not in mask


@pytest.mark.parametrize("number", [1, 3, 6, 8])
@pytest.mark.parametrize("of_stored", [True, False])
def test_mask_decides_whether_its_image_is_turned(voc, number, of_stored):
    data = voc_segmentation(voc, splits=("train",))
    exif = Image.Exif()
    exif[0x0112] = number
    with Image.open(data.images[0]) as image:
        image.save(data.images[0], exif=exif, quality=95)
    with Image.open(data.images[0]) as image:
        stored = np.asarray(image)
        upright = np.asarray(ImageOps.exif_transpose(image))
    mask = np.zeros(stored.shape[:2] if of_stored else upright.shape[:2], np.uint8)
    Image.fromarray(mask).save(data.masks[0])
    assert data.problem(0) is None
    is_stored = of_stored and number >= 5
    image, found = data.read(0)
    np.testing.assert_array_equal(image, stored if is_stored else upright)
    np.testing.assert_array_equal(found, mask)


def test_long_list_of_bad_masks_is_cut():
    line = describe([f"{place}.png is unreadable" for place in range(7)])
    assert line.startswith("7 bad masks left out: 0.png is unreadable; 1.png")
    assert line.endswith("4.png is unreadable; and 2 more")
