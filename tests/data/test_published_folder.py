"""A published folder names the files it lacks and the lines it cannot read."""

import numpy as np
import pytest

from byol_keras.data.published_folder import (
    PublishedFolder,
    malformed,
    read_lines,
    read_list,
)

from support.datasets import numbers, write_jpeg, write_text


@pytest.fixture
def folder(tmp_path):
    return PublishedFolder("places", tmp_path, "example.org/places")


def test_the_first_existing_file_is_taken(folder, tmp_path):
    write_text(tmp_path / "b.txt", [])
    assert folder.first_file("a.txt", "b.txt") == tmp_path / "b.txt"
    write_text(tmp_path / "a.txt", [])
    assert folder.first_file("a.txt", "b.txt") == tmp_path / "a.txt"


def test_a_missing_file_is_named_with_its_address(folder, tmp_path):
    with pytest.raises(ValueError) as error:
        folder.first_file("a.txt", "b.txt")
    assert str(error.value) == (
        "places.path must hold a.txt or b.txt (get it from example.org/places). "
        f"Received: {tmp_path}, without it"
    )
    absent = PublishedFolder("places", tmp_path / "no", "example.org")
    with pytest.raises(ValueError, match="which is no folder"):
        absent.first_file("a.txt")


def test_split_must_be_one_of_those_allowed(folder):
    folder.check_split("val")
    folder.check_split("test", ("val", "test"))
    with pytest.raises(ValueError, match=r"places.split must be one of .*: 'test'"):
        folder.check_split("test")


def test_listed_images_have_their_labels_in_the_order_of_the_list(folder, tmp_path):
    for number in (5, 7):
        write_jpeg(tmp_path / f"a/{number}.jpg", number)
    files = ["a/7.jpg", "a/5.jpg", "a/7.jpg"]
    data = folder.listed("name", tmp_path, files, [1, 0, 1], ("x", "y"))
    assert numbers(data) == [7, 5, 7]
    assert data.labels().tolist() == [1, 0, 1]
    assert (data.channels, data.names, data.class_names) == (3, files, ("x", "y"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "must hold a list of images. Received: an empty list"),
        (["a/1.jpg", "b/2.jpg"], "without 2 of 2, such as a/1.jpg"),
        (["a/../../1.jpg"], r"stay below its folder. Received: a/\.\./\.\./1.jpg"),
        (["/1.jpg"], "stay below its folder. Received: /1.jpg"),
    ],
)
def test_a_list_that_does_not_fit_the_folder_is_refused(
    folder, tmp_path, files, message
):
    with pytest.raises(ValueError, match=message):
        folder.listed("name", tmp_path, files, np.zeros(len(files), int), ("x",))


def test_lines_of_either_separator_are_read_and_empty_ones_skipped(tmp_path):
    lines = ["a/1.jpg 3", "", "b c/2.jpg;0", "3.jpg\t 12", "d;4.jpg,7"]
    write_text(tmp_path / "list.txt", lines)
    files, labels = read_list(tmp_path / "list.txt")
    assert files == ["a/1.jpg", "b c/2.jpg", "3.jpg", "d;4.jpg"]
    assert labels == [3, 0, 12, 7]


def test_a_malformed_line_is_named_by_number_and_file(tmp_path):
    path = tmp_path / "list.txt"
    assert str(malformed(path, "of words", 4, " x \n")) == (
        f"list.txt must hold lines of words. Received: 'x' in line 4 of {path}"
    )
    write_text(path, ["1.jpg 0", "2.jpg"])
    with pytest.raises(ValueError, match=r"Received: '2.jpg' in line 2 of "):
        read_list(path)


def test_lines_have_no_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1.jpg\r\n2.jpg")
    assert read_lines(tmp_path / "a.txt") == ["1.jpg", "2.jpg"]


def test_list_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("1.jpg\n".encode("utf-16"))
    rule = r"^a\.txt must be text in UTF-8\. Received: .*a\.txt \("
    with pytest.raises(ValueError, match=rule):
        read_lines(tmp_path / "a.txt")


def test_url_is_no_folder_of_a_dataset():
    with pytest.raises(ValueError, match=r"^f\.path must be a local path; .* gs://b"):
        PublishedFolder("f", "gs://b", "example.org")
