"""Folders of images are read whatever the formats, sizes and names of their files."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras import data

from support.datasets import GIF_TWO_FRAMES, bmp, random_image, write


def test_sub_folders_are_the_classes_in_sorted_order(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("zebra/1.png", "ant/b/2.PNG", "ant/1.png", "bee/1.png"):
        write(tmp_path / path, png)
    source = data.image_folder(tmp_path)
    assert source.class_names == ("ant", "bee", "zebra")
    assert [int(e["label"]) for e in source.ordered()] == [0, 0, 1, 2]


def test_hidden_files_and_other_files_are_left_out(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("1.png", ".2.png", ".cache/3.png", "notes.txt"):
        write(tmp_path / path, png)
    assert data.image_folder(tmp_path).num_examples == 1


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
    with pytest.raises(ValueError, match=r"1 unreadable of the first 1, .*00.jpg \(J"):
        data.image_folder(tmp_path)
    with pytest.raises(ValueError, match=r"17 unreadable of the first 17, .*16.jpg "):
        data.image_folder(tmp_path, max_bad_share=1.0)
    with pytest.raises(ValueError, match=r"channels must be None, 1 or 3.*: 4"):
        data.image_folder(tmp_path, channels=4)


def test_unreadable_images_among_the_first_are_named_in_one_warning(tmp_path, caplog):
    for number in range(5):
        image = np.zeros((2, 2, 1), np.uint8)
        write(tmp_path / f"{number}.png", tf.io.encode_png(image))
    for number in (1, 3):
        write(tmp_path / f"{number}.png", b"\x89PNG no image")
    with caplog.at_level("WARNING", logger="byol_keras"):
        source = data.image_folder(tmp_path, max_bad_share=0.5)
    (warning,) = caplog.messages
    assert warning.startswith("2 of the first 5 images in ")
    flaw = "(no image: begins with b'\\x89PNG no imag')"
    assert warning.endswith(f"{tmp_path}/1.png {flaw}, {tmp_path}/3.png {flaw}")
    assert (source.num_examples, source.channels) == (5, 1)


def test_channels_are_those_of_the_first_readable_images(tmp_path):
    for number in range(40):
        image = np.zeros((2, 2, 1), np.uint8)
        encoded = tf.io.encode_png(image) if number >= 20 else b""
        write(tmp_path / f"{number:02}.png", encoded)
    assert data.image_folder(tmp_path, max_bad_share=0.5).channels == 1


def test_links_are_followed_and_circles_of_them_come_to_an_end(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    folder = tmp_path / "folder"
    for path in (folder / "a/1.png", folder / "b/2.png", tmp_path / "pool/3.png"):
        write(path, png)
    (folder / "a/back").symlink_to(folder, target_is_directory=True)
    (folder / "a/to_b").symlink_to(folder / "b", target_is_directory=True)
    (folder / "b/to_a").symlink_to(folder / "a", target_is_directory=True)
    (folder / "c").symlink_to(tmp_path / "pool", target_is_directory=True)
    assert data.image_folder(folder).names == [
        "a/1.png",
        "a/to_b/2.png",
        "b/2.png",
        "b/to_a/1.png",
        "c/3.png",
    ]


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "webp"])
def test_tiff_and_webp_give_their_pixels(tmp_path, suffix):
    image = random_image(np.random.default_rng(0))
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"1.{suffix}", **options)
    write(tmp_path / "2.png", tf.io.encode_png(image))
    examples = list(data.image_folder(tmp_path).ordered())
    np.testing.assert_array_equal(examples[0]["image"], image)
    np.testing.assert_array_equal(examples[1]["image"], image)
