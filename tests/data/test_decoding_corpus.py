"""Decoding equals Pillow's, on images of all modes and on the test images of others.

`as_expected` is the rule: Pillow's pixels, without transparency. Where Pillow has no
8-bit pixels of its own, the upper 8 of the stored bits are kept. Grey of a colour JPEG
is the luma that the file stores, which Pillow gives as a draft.
"""

import collections
import io
import os
import pathlib
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import decoding, image_bytes, image_folder
from byol_keras.data.image_files import IMAGE_SUFFIXES
from byol_keras.data.unreadable import flaw_of_file

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
GOOD_REASONS = (
    "32 bits for each channel",
    "more than 134,217,728 in all",
    "CMYK JPEG that does not say",
)
# Images of the corpus that are left out.
LEFT_OUT = ("cmyk without a marker.jpg",)


def as_expected(encoded, channels):
    """uint8 `[h, w, channels]` by Pillow; None of 32 bits, whose range is unknown."""
    with Image.open(io.BytesIO(encoded)) as image:
        if channels == 1 and image.mode == "RGB":
            image.draft("L", image.size)
        is_tiff = image.format == "TIFF"
        bits = image.tag_v2.get(258, (1,))[0] if is_tiff else 16
        if image.mode in ("I", "F") and bits == 32:
            return None
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
@pytest.mark.parametrize("folder", CORPUS_FOLDERS, ids=str)
def test_images_of_others_are_decoded_as_pillow_does_or_left_out(folder, capsys):
    if not folder.is_dir():
        pytest.skip(f"no images in {folder}")
    found = collections.defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(IMAGE_SUFFIXES) and path.is_file():
            outcome, detail = outcome_of(path)
            found[outcome][str(path.relative_to(folder))] = detail
    with capsys.disabled():
        print(f"\n{folder}: {sum(map(len, found.values()))} images")
        for outcome, files in found.items():
            print(f"  {len(files)} {outcome}")
            if outcome != "equal":
                print(*(f"    {name}: {why}" for name, why in files.items()), sep="\n")
    assert found["equal"]
    assert not found["different"]
    assert all(
        any(reason in why for reason in GOOD_REASONS)
        for why in found["left out, though Pillow reads it"].values()
    )


def outcome_of(path):
    """What happens to an image, and a reason or the differences."""
    encoded = path.read_bytes()
    flaws = {flaw_of_file(str(path), channels) for channels in (1, 3)}
    assert len(flaws) == 1, path
    (flaw,) = flaws
    try:
        with warnings.catch_warnings(action="ignore"):
            is_known = as_expected(encoded, 3) is not None
    except Exception:  # Pillow raises many kinds
        return ("left out", flaw) if flaw else ("read, though Pillow does not", "")
    if flaw:
        return ("left out, though Pillow reads it", flaw)
    if not is_known:
        return "different", "32 bits are read"
    differences = [difference(decoded(encoded, c), encoded) for c in (1, 3)]
    return "different" if any(differences) else "equal", differences


def decoded(encoded, channels):
    return _decode(tf.constant(encoded), channels).numpy()


@tf.function
def _decode(encoded, channels):
    return decoding.decode(image_bytes.readable_in_graph(encoded), channels)
