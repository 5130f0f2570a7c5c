"""Folders of `.npy` files are images of any number of channels."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import array_files
from byol_keras.views import TwoViews
from byol_keras.views.crops import RandomResizedCrop


def write_arrays(folder, count=6, channels=5):
    """Files `a/0.npy`, `b/1.npy`, ... whose first value is their number."""
    rng = np.random.default_rng(0)
    for number in range(count):
        image = rng.integers(0, 256, (20 + number, 30, channels), dtype=np.uint8)
        image[0, 0, 0] = number
        path = folder / "ab"[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image)
    return folder


def test_arrays_are_read_with_all_their_channels_in_order(tmp_path):
    found = data.image_folder(write_arrays(tmp_path))
    assert (found.num_examples, found.channels, found.class_names) == (6, 5, ("a", "b"))
    images = [example["image"].numpy() for example in found.ordered()]
    assert [image[0, 0, 0] for image in images] == [0, 2, 4, 1, 3, 5]
    assert images[0].shape == (20, 30, 5)
    assert np.array_equal(images[0], np.load(tmp_path / "a/0.npy"))


def test_grey_arrays_without_an_axis_of_channels_have_one(tmp_path):
    np.save(tmp_path / "grey.npy", np.arange(12, dtype=np.uint8).reshape(3, 4))
    (example,) = data.image_folder(tmp_path).ordered()
    assert example["image"].shape == (3, 4, 1)


def test_views_of_arrays_have_all_channels(tmp_path):
    layers = [RandomResizedCrop(size=16, semantics="torchvision")]
    found = data.image_folder(write_arrays(tmp_path))
    view1, view2 = next(iter(TwoViews(layers, layers).dataset(found, 4, seed=0)))
    assert view1.shape == view2.shape == (4, 16, 16, 5)


def test_images_come_before_arrays(tmp_path):
    write_arrays(tmp_path)
    png = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    (tmp_path / "image.png").write_bytes(png)
    assert data.image_folder(tmp_path).num_examples == 1


def test_a_broken_array_is_replaced_by_the_next_one(tmp_path):
    write_arrays(tmp_path)
    whole = (tmp_path / "a/2.npy").read_bytes()
    (tmp_path / "a/2.npy").write_bytes(whole[: len(whole) // 2])
    found = data.image_folder(tmp_path, max_bad_share=0.5)
    assert numbers_of(found) == [0, 4, 4, 1, 3, 5]
    assert len(list(found.ordered())) == len(found.labels()) == 5


def numbers_of(found):
    """First value of each array of a pass of training, without shuffling."""
    stream = found.stream(seed=0, shuffle=False).take(found.num_examples)
    return [int(example["image"][0, 0, 0]) for example in stream]


@pytest.mark.parametrize("change", ["truncated", "deleted", "of other channels"])
def test_an_array_that_changes_is_unreadable_from_then_on(change, tmp_path):
    found = data.image_folder(write_arrays(tmp_path), max_bad_share=0.5)
    assert numbers_of(found) == [0, 2, 4, 1, 3, 5]
    path = tmp_path / "a" / "2.npy"
    contents = path.read_bytes()
    if change == "truncated":
        path.write_bytes(contents[: len(contents) // 2])
    elif change == "deleted":
        path.unlink()
    else:
        np.save(path, np.zeros((4, 4, 3), np.uint8))
    assert numbers_of(found) == [0, 4, 4, 1, 3, 5]
    path.write_bytes(contents)
    assert numbers_of(found) == [0, 4, 4, 1, 3, 5]
    assert [file.path for file in found.unreadable()] == [str(path)]


def test_an_array_that_changes_while_it_is_read_is_unreadable(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(array_files, "flaw_of_array", lambda path, channels: None)
    assert array_files.load_array(tmp_path / "x.npy", 3)[1] is None
    assert "of 5 channels" in array_files.load_array(tmp_path / "x.npy", 5)[1]
    (tmp_path / "x.npy").write_bytes(b"")
    found = array_files.load_array(tmp_path / "x.npy", 3)
    assert found[0].shape == (0, 0, 3)
    assert found[1] == "changed while it was read"


@pytest.mark.parametrize(
    "array, reason",
    [
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4,), np.uint8), r"\[4\], not uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"not uint8 \[h, w, C\]"),
        (np.zeros((4, 4, 3), np.uint8), "not of 5 channels"),
        (np.array([None]), "of Python objects"),
    ],
)
def test_an_unusable_array_has_a_reason(array, reason, tmp_path):
    np.save(tmp_path / "x.npy", array)
    assert re.search(reason, array_files.flaw_of_array(tmp_path / "x.npy", 5))


def test_array_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "MAX_PIXELS", 15)
    np.save(tmp_path / "x.npy", np.zeros((4, 4), np.uint8))
    assert "more than 15 pixels" in array_files.flaw_of_array(tmp_path / "x.npy")


def test_missing_array_cannot_be_opened(tmp_path):
    assert "cannot be opened" in array_files.flaw_of_array(tmp_path / "x.npy")


def test_pipe_among_arrays_is_not_read(tmp_path):
    write_arrays(tmp_path)
    os.mkfifo(tmp_path / "a.npy")
    source = data.image_folder(tmp_path, max_bad_share=0.9)
    assert len(list(source.ordered())) == 6
    (bad,) = source.unreadable()
    assert bad.reason == "cannot be opened: not a regular file"


def test_folder_of_unusable_arrays_is_refused_with_the_reason(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"readable arrays.*float32"):
        data.image_folder(tmp_path)


def test_channels_of_arrays_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="those of the arrays, 5"):
        data.image_folder(write_arrays(tmp_path), channels=3)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 64, 64), True),
        ((13, 64, 64), True),
        ((1, 60, 80), True),
        ((2, 60, 80), True),
        ((13, 64, 80), True),
        ((4, 80, 60), True),
        ((64, 64, 3), False),
        ((64, 64, 200), False),
        ((30, 64, 200), False),
        ((2, 3, 3), False),
        ((3, 4, 4), False),
        ((3, 64, 8), False),
        ((3, 64), False),
    ],
)
def test_channels_first_is_known_by_the_shape(shape, expected):
    assert array_files.has_channels_first(shape) == expected


def test_arrays_with_channels_first_are_refused(tmp_path):
    np.save(tmp_path / "1.npy", np.zeros((3, 64, 64), np.uint8))
    rule = re.escape("uint8 [3, 64, 64], probably [C, h, w] instead of [h, w, C])")
    with pytest.raises(ValueError, match=rule):
        data.image_folder(tmp_path)
