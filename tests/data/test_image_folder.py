"""Folders of images are read whatever the formats, sizes and names of their files."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras import data

from support import images
from support.datasets import GIF_TWO_FRAMES, bmp, random_image, write


def test_sub_folders_are_the_classes_in_sorted_order(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("zebra/1.png", "ant/b/2.PNG", "ant/1.png", "bee/1.png"):
        write(tmp_path / path, png)
    source = data.image_folder(tmp_path)
    assert source.class_names == ("ant", "bee", "zebra")
    assert [int(e["label"]) for e in source.ordered()] == [0, 0, 1, 2]


def test_a_flat_folder_has_no_labels_and_sorted_files(tmp_path):
    for number in (10, 9, 2):
        image = np.full((2, 2, 3), number, np.uint8)
        write(tmp_path / f"{number:02}.png", tf.io.encode_png(image))
    source = data.image_folder(tmp_path)
    assert source.class_names is None
    examples = list(source.ordered())
    assert [int(e["image"][0, 0, 0]) for e in examples] == [2, 9, 10]
    assert "label" not in next(iter(source.stream(seed=0)))


def test_one_image_outside_of_sub_folders_means_no_labels(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("ant/1.png", "bee/1.png", "1.png"):
        write(tmp_path / path, png)
    assert data.image_folder(tmp_path).class_names is None


def test_images_of_any_format_and_size_are_read_together(tmp_path):
    image = random_image(np.random.default_rng(0))
    write(tmp_path / "1.bmp", bmp(image))
    write(tmp_path / "2.gif", GIF_TWO_FRAMES)
    write(tmp_path / "3.jpg", tf.io.encode_jpeg(image[:5]))
    write(tmp_path / "4.png", tf.io.encode_png(image[:3]))
    shapes = [tuple(e["image"].shape) for e in data.image_folder(tmp_path).ordered()]
    assert shapes == [(9, 7, 3), (1, 2, 3), (5, 7, 3), (3, 7, 3)]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [((1,), 1), ((2,), 1), ((3,), 3), ((4,), 3), ((1, 3), 3), ((1, 1), 1)],
)
def test_channels_are_those_of_the_first_images(tmp_path, stored, expected):
    rng = np.random.default_rng(0)
    for number, channels in enumerate(stored):
        png = tf.io.encode_png(random_image(rng, channels=channels))
        write(tmp_path / f"{number}.png", png)
    source = data.image_folder(tmp_path)
    assert source.channels == expected
    assert {e["image"].shape[-1] for e in source.ordered()} == {expected}
    assert data.image_folder(tmp_path, channels=1).channels == 1


def test_image_folders_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/none"):
        data.image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must hold images \(.jpg .*Received: "):
        data.image_folder(tmp_path)
    write(tmp_path / "notes.txt", b"text")
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/notes.txt"):
        data.image_folder(tmp_path / "notes.txt")
    for number in range(17):
        write(tmp_path / f"{number:02}.jpg", b"\xff\xd8\xff no image")
    with pytest.raises(ValueError, match=r"1 unreadable of 1 examined, .*00.jpg \(J"):
        data.image_folder(tmp_path)
    with pytest.raises(ValueError, match=r"17 unreadable of 17 examined, .*jpg "):
        data.image_folder(tmp_path, max_bad_share=1.0)
    with pytest.raises(ValueError, match=r"channels must be None, 1 or 3.*: 4"):
        data.image_folder(tmp_path, channels=4)


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "webp"])
def test_tiff_and_webp_give_their_pixels(tmp_path, suffix):
    image = random_image(np.random.default_rng(0))
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"1.{suffix}", **options)
    write(tmp_path / "2.png", tf.io.encode_png(image))
    examples = list(data.image_folder(tmp_path).ordered())
    np.testing.assert_array_equal(examples[0]["image"], image)
    np.testing.assert_array_equal(examples[1]["image"], image)


@pytest.fixture(scope="module", params=[1, 3])
def odd_folder(request, tmp_path_factory):
    """Source of all odd images, the pixels of each, and what `stream` yields."""
    folder = tmp_path_factory.mktemp("odd")
    for name, (encoded, _) in images.ODD.items():
        (folder / name).write_bytes(encoded)
    source = data.image_folder(folder, channels=request.param)
    decoded = [example["image"].numpy() for example in source.ordered()]
    stream = source.stream(seed=0, shuffle=False).take(len(images.ODD))
    encoded = [element["image"] for element in stream]
    return source, decoded, encoded


@pytest.mark.parametrize("name", images.ODD)
def test_odd_image_has_the_pixels_that_pillow_reads(name, odd_folder):
    source, decoded, encoded = odd_folder
    place = source.names.index(name)
    image = decoded[place]
    assert image.shape[-1] == source.channels
    assert image.dtype == np.uint8
    stored, expected = images.ODD[name]
    if expected is not None:
        grey = images.luma(expected)[..., None]
        expected = expected if source.channels == 3 else grey
        tolerance = 8 if stored[:2] == b"\xff\xd8" else 1
        np.testing.assert_allclose(image.astype(int), expected, atol=tolerance)
    height, width, _ = source.shape(encoded[place]).numpy()
    assert (height, width) == image.shape[:2]
    box = [0, 0, min(height, 9), min(width, 7)]
    crop = source.decode_crops(encoded[place], [box])[0]
    np.testing.assert_array_equal(crop, image[: box[2], : box[3]])
