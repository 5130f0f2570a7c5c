"""Unreadable images have a reason, and are counted and listed."""

import os

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import unreadable
from byol_keras.data.unreadable import listed_in

from support.datasets import numbered_images, write


def test_file_that_cannot_be_opened_has_a_reason(tmp_path):
    flaw = unreadable.flaw_of_file(str(tmp_path))
    assert flaw == "cannot be opened: not a regular file"


def test_bad_images_are_listed_once_in_a_run_and_its_resumption(tmp_path):
    listing = tmp_path / "bad_images.txt"
    for _ in range(2):  # a run and its resumption
        source = numbered_images(tmp_path / "images", 6, broken=(1, 4))
        with listed_in(listing):
            list(source.ordered())
    folder = tmp_path / "images"
    assert sorted(listing.read_text().splitlines()) == [
        f"{folder}/001/001.png\tempty file",
        f"{folder}/004/004.png\tempty file",
    ]
    assert source.unreadable() == [
        (1, str(folder / "001/001.png"), "empty file"),
        (4, str(folder / "004/004.png"), "empty file"),
    ]


def test_first_bad_image_is_a_warning_that_names_the_list(tmp_path, caplog):
    source = numbered_images(tmp_path, 6, broken=(1, 4))
    caplog.clear()
    with (
        caplog.at_level("WARNING", logger="byol_keras"),
        listed_in(tmp_path / "bad_images.txt"),
    ):
        list(source.ordered())
    warning, summary = caplog.messages
    assert "are replaced by the next ones in training, and left out of" in warning
    assert warning.endswith(f"(empty file); see {tmp_path}/bad_images.txt")
    assert summary == f"2 images could not be read; see {tmp_path}/bad_images.txt"


def test_other_errors_of_tensorflow_are_not_replaced():
    with pytest.raises(tf.errors.InvalidArgumentError), listed_in(None):
        tf.io.decode_png(b"no image")


@pytest.mark.parametrize("share", [-0.1, 1.5, "all"])
def test_share_of_bad_images_is_in_0_to_1(share, tmp_path):
    write(tmp_path / "1.png", tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"max_bad_share must be a number in 0..1"):
        data.image_folder(tmp_path, max_bad_share=share)


def test_images_left_out_are_counted_by_the_name_of_the_data(tmp_path):
    source = numbered_images(tmp_path, 4, broken=(1,))
    with unreadable.counted_left_out() as counts:
        source.readable().readable()
        numbered_images(tmp_path / "whole", 2).readable()
    assert counts == {source.name: 1}
    with unreadable.counted_left_out() as counts:
        pass
    assert counts == {}


@pytest.mark.parametrize(
    "name", [b"a\tb.png", b"a\nb.png", b"a\xffb.png", b"a[/x].png"]
)
def test_odd_names_are_listed_once(tmp_path, name, caplog):
    folder = tmp_path / "images"
    for number in range(3):
        png = tf.io.encode_png(np.full((4, 5, 1), number, np.uint8)).numpy()
        write(folder / f"{number}.png", png)
    parent = os.path.join(os.fsencode(folder), os.path.dirname(name))
    os.makedirs(parent, exist_ok=True)
    with open(os.path.join(os.fsencode(folder), name), "wb"):
        pass
    listing = tmp_path / "bad_images.txt"
    for _ in range(2):  # as two starts of a run do
        source = data.image_folder(folder, channels=1, max_bad_share=0.9)
        with listed_in(listing):
            assert len(list(source.ordered())) == 3
    (line,) = listing.read_text().splitlines()
    assert line.count("\t") == 1
    assert line.endswith(".png\tempty file")
    assert any("empty file" in message for message in caplog.messages)
    for message in caplog.messages:
        assert message.encode() and "\n" not in message
