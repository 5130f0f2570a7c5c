"""Decoding equals Pillow's, on images of all modes and on the test images of others.

`as_expected` is the rule: Pillow's pixels, upright and without transparency. Where
Pillow has no 8-bit pixels of its own, the upper 8 of the stored bits are kept. Of 32
bits and signed values, whose range is unknown, nothing is read. Grey of a colour JPEG
is the luma that the file stores, which Pillow gives as a draft.
"""

import collections
import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from byol_keras.data import image_bytes, image_folder

from support.image_corpus import WRITERS

# Folders of images by others: the Debian package of libjxl's test images, and those of
# an environment variable, such as Tests/images in the source package of Pillow.
CORPUS_FOLDERS = [
    pathlib.Path("/usr/share/libjxl-testdata"),
    *map(
        pathlib.Path,
        filter(None, os.environ.get("BYOL_KERAS_IMAGES", "").split(os.pathsep)),
    ),
]
# Why an image is left out that Pillow opens.
GOOD_REASONS = ("CMYK JPEG that does not say whether it is inverted",)
# Images of the corpus that are left out.
LEFT_OUT = ("cmyk without a marker.jpg",)


def as_expected(encoded, channels):
    """uint8 `[h, w, channels]` by Pillow; None if their range is unknown."""
    with Image.open(io.BytesIO(encoded)) as image:
        if channels == 1 and image.mode == "RGB":
            image.draft("L", image.size)
        is_tiff = image.format == "TIFF"
        bits = image.tag_v2.get(258, (1,))[0] if is_tiff else 16
        if is_tiff and image.mode in ("I", "F"):
            return None
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> bits - 8).astype(np.uint8))
        if image.mode in ("1", "LA"):
            image = image.convert("L")
        if image.mode != "L":
            image = image.convert("RGB")
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(image).reshape(*image.size[::-1], channels)


def tolerance(encoded, channels):
    """The largest difference in steps of 255."""
    with Image.open(io.BytesIO(encoded)) as image:
        # Pillow rounds products where TensorFlow cuts them off.
        of_cmyk = image.format == "JPEG" and image.mode == "CMYK"
        of_luma = channels == 1 and image.format not in ("JPEG", "MPO")
        return int(of_cmyk) * (1 if channels == 3 else 2) + int(of_luma)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WRITERS)
def test_images_of_all_modes_are_decoded_as_pillow_does(kind, channels, tmp_path):
    files = dict(WRITERS[kind]())
    if not files:
        pytest.skip(f"nothing here writes {kind}")
    for number, encoded in enumerate(files.values()):
        suffix = pathlib.Path(list(files)[number]).suffix
        (tmp_path / f"{number:03}{suffix}").write_bytes(encoded)
    data = image_folder(str(tmp_path), channels, max_bad_share=0.1)
    left_out = [name for name, image in files.items() if image_bytes.flaw_of(image)]
    assert left_out == [name for name in files if name in LEFT_OUT]
    readable = [(name, files[name]) for name in files if name not in LEFT_OUT]
    found = [element["image"].numpy() for element in data.readable().ordered()]
    differences = {
        name: difference(image, encoded)
        for (name, encoded), image in zip(readable, found, strict=True)
    }
    assert not {name: found for name, found in differences.items() if found}


def difference(image, encoded):
    """How the pixels, uint8 or float, differ from Pillow's; empty if they do not."""
    channels = image.shape[-1]
    expected = as_expected(encoded, channels)
    if image.shape != expected.shape:
        return f"shape {image.shape} instead of {expected.shape}"
    if image.dtype != np.uint8:
        image = np.round(image * 255)
    largest = np.abs(image - expected.astype(np.float32)).max()
    return f"by {largest}" if largest > tolerance(encoded, channels) else ""


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("folder", CORPUS_FOLDERS, ids=str)
def test_images_of_others_are_decoded_as_pillow_does_or_left_out(
    folder, channels, capsys
):
    if not folder.is_dir():
        pytest.skip(f"no images in {folder}")
    data = image_folder(folder, channels, max_bad_share=1.0)
    found = collections.defaultdict(dict)
    readable = data.readable()
    for name, element in zip(readable.names, readable.ordered(), strict=True):
        encoded = (folder / name).read_bytes()
        is_read = is_read_by_pillow(encoded)
        reason = difference(element["image"].numpy(), encoded) if is_read else ""
        outcome = ("different" if reason else "equal") if is_read else "only read here"
        found[outcome][name] = reason
    for file in data.unreadable():
        is_read = is_read_by_pillow(pathlib.Path(file.path).read_bytes())
        outcome = "left out, though Pillow reads it" if is_read else "left out"
        found[outcome][os.path.relpath(file.path, folder)] = file.reason
    with capsys.disabled():
        print_outcomes(f"{folder}, {channels} channels", found)
    assert found["equal"]
    assert not found["different"]
    reasons = found["left out, though Pillow reads it"].values()
    assert all(reason.startswith(GOOD_REASONS) for reason in reasons)


def is_read_by_pillow(encoded):
    try:
        return as_expected(encoded, 3) is not None
    except Exception:  # Pillow raises many kinds
        return False


def print_outcomes(title, found):
    print(f"\n{title}: {sum(map(len, found.values()))} images")
    for outcome, files in found.items():
        print(f"  {len(files)} {outcome}")
        if outcome != "equal":
            print(*(f"    {name}: {why}" for name, why in files.items()), sep="\n")
