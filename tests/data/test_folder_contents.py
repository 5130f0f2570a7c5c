"""The log says what a folder holds, and warns of what may not be meant."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import folder_contents

from support.datasets import write

PNG = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)).numpy()


def lines(folder, files, caplog):
    """What is logged of a folder, the warnings without its path."""
    for file in files:
        write(folder / file, PNG)
    with caplog.at_level("INFO", logger="byol_keras"):
        data.image_folder(folder)
    first, *warnings = caplog.messages
    assert all(line.startswith(f"{folder}: ") for line in warnings)
    return first, [line.removeprefix(f"{folder}: ") for line in warnings]


def test_images_by_ending_and_by_class_are_in_one_line(tmp_path, caplog):
    found, warnings = lines(tmp_path, ["a/1.png", "a/2.PNG", "b/3.jfif"], caplog)
    classes = "2 classes: 2 a, 1 b"
    assert found == f"3 images in {tmp_path}: 2 .png, 1 .jfif; {classes}"
    assert not warnings


def test_what_is_found_is_logged_once(tmp_path, caplog):
    lines(tmp_path, ["a/1.png", "b.png"], caplog)
    with caplog.at_level("INFO", logger="byol_keras"):
        data.image_folder(tmp_path)
    assert len(caplog.messages) == 2


def test_other_files_are_counted_in_one_line(tmp_path, caplog):
    others = [*(f"{n}.heicx" for n in range(3)), "4.txt", "readme"]
    found, warnings = lines(tmp_path, ["1.png", *others], caplog)
    assert found == f"1 image in {tmp_path}: 1 .png; no classes"
    counts = "3 .heicx, 1 without ending, 1 .txt"
    assert warnings == [f"5 files are no images that can be read: {counts}"]


def test_an_image_beside_the_folders_of_classes_is_named(tmp_path, caplog):
    files = ["a/1.png", "b/1.png", "cover.png"]
    found, (warning,) = lines(tmp_path, files, caplog)
    assert found.endswith("no classes")
    assert warning == (
        "no labels, since 1 of 3 images are beside the folders of the classes: "
        "cover.png"
    )
    with pytest.raises(ValueError, match=r"must have labels.*: cover\.png"):
        data.image_folder(tmp_path).labels()


@pytest.mark.parametrize(
    ("files", "classes", "warning"),
    [
        (["images/a/1.png", "images/b/2.png"], "1 class: images", "a and b in images"),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"],
            "2 classes: 2 test, 2 train",
            "a and b in test",
        ),
        (["a/images/1.png", "b/images/1.png"], "2 classes: 1 a, 1 b", None),
        (["a/images/1.png", "train/images/1.png"], "2 classes: 1 a, 1 train", None),
        (["a/1.png", "b/c/1.png", "b/d/1.png"], "2 classes: 2 b, 1 a", None),
    ],
)
def test_folders_below_those_of_the_classes_are_named(
    tmp_path, caplog, files, classes, warning
):
    found, warnings = lines(tmp_path, files, caplog)
    assert found.endswith(f"; {classes}")
    assert len(warnings) == bool(warning)
    assert not warning or f"those below, such as {warning}, are not" in warnings[0]


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        (["train/1.png", "Val/1.png"], "Val, train"),
        (["test/images/1.jpg", "train/images/1.jpg"], "test, train"),
    ],
)
def test_classes_that_are_named_as_parts_of_a_dataset_are_named(
    tmp_path, caplog, files, warning
):
    _, warnings = lines(tmp_path, files, caplog)
    rule = "the classes have names of parts of a dataset"
    assert warnings[0].startswith(f"{rule}: {warning}. To use only one part, set ")


def test_folders_without_images_are_named(tmp_path, caplog):
    for folder in ("empty", "@eaDir", ".git"):
        (tmp_path / folder).mkdir()
    files = ["a/1.png", "b/c/1.png", "notes/read.txt"]
    found, warnings = lines(tmp_path, files, caplog)
    assert found.endswith("; 2 classes: 1 a, 1 b")
    assert warnings[-1] == "folders without images are no classes: empty, notes"


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (np.array([1, 0, 1]), ("a", "b", "c"), "3 classes: 2 b, 1 a, 0 c"),
        (np.array([[1, 0], [1, 1], [-1, 1]]), ("a", "b"), "2 classes: 2 a, 2 b"),
        (np.array([0, 0, 0]), ("a",), "1 class: a"),
        (None, ("a", "b"), "2 classes"),
        (None, None, "no classes"),
    ],
)
def test_classes_of_other_data_are_logged(labels, names, expected, caplog):
    with caplog.at_level("INFO", logger="byol_keras"):
        folder_contents.log_classes(f"data [{expected}]", 3, names, labels)
    assert caplog.messages == [f"3 images: data [{expected}]; {expected}"]


def test_many_classes_are_counted(tmp_path, caplog):
    files = [f"{number}/1.png" for number in range(9)]
    found, _ = lines(tmp_path, ["0/2.png", *files], caplog)
    assert found.endswith("; 9 classes of 1 to 2 images")


def test_names_that_are_not_utf_8_are_read_and_shown(tmp_path, caplog):
    folder = os.fsencode(tmp_path) + b"/cl\xff[x]"
    os.mkdir(folder)
    for name in (b"a\xfe.png", b"a\tb.png"):
        pathlib.Path(os.fsdecode(folder + b"/" + name)).write_bytes(PNG)
    found, _ = lines(tmp_path, [], caplog)
    source = data.image_folder(tmp_path)
    assert found.endswith("1 class: cl\\xff[x]")
    assert source.class_names == ("cl\\xff[x]",)
    assert source.names == ["cl\\xff[x]/a\tb.png", "cl\\xff[x]/a\\xfe.png"]
    assert [e["image"].shape for e in source.ordered()] == [(2, 2, 3)] * 2
    (element,) = source.stream(seed=0).take(1)
    assert source.decode(element["image"]).shape == (2, 2, 3)
    assert len(source.digest()) == 64
