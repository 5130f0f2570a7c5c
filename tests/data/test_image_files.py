"""Image files are found in a fixed order; the first readable ones give the channels."""

import collections
import errno
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import image_files
from byol_keras.data.decoding import channels_of
from byol_keras.data.image_bytes import readable

from support.datasets import write


def png(channels=3):
    return tf.io.encode_png(np.zeros((2, 2, channels), np.uint8))


def write_pngs(folder, *names):
    for name in names:
        write(folder / name, png())


def test_hidden_files_and_other_files_are_left_out(tmp_path):
    write_pngs(tmp_path, "1.png", ".2.png", ".cache/3.png", "notes.txt")
    assert image_files.find_images(tmp_path).files == ["1.png"]


def test_paths_are_sorted_whatever_the_case_of_their_suffix(tmp_path):
    write_pngs(tmp_path, "b/1.PNG", "a/2.png", "a/10.Png", "c.png")
    found = image_files.find_images(tmp_path).files
    assert found == ["a/10.Png", "a/2.png", "b/1.PNG", "c.png"]


def test_other_suffixes_are_found_only_where_there_are_no_images(tmp_path):
    write(tmp_path / "1.npy", b"")
    assert image_files.find_images(tmp_path, otherwise=(".npy",)).files == ["1.npy"]
    write_pngs(tmp_path, "2.png")
    assert image_files.find_images(tmp_path, otherwise=(".npy",)).files == ["2.png"]


def test_a_folder_without_images_is_refused_with_all_suffixes(tmp_path):
    with pytest.raises(
        ValueError, match=r"images \(.jpg .* .tiff .* .npy\). Received: "
    ):
        image_files.find_images(tmp_path, otherwise=(".npy",))


def test_links_are_followed_and_a_circle_of_them_once(tmp_path):
    folder = tmp_path / "folder"
    write_pngs(tmp_path, "folder/a/1.png", "folder/b/2.png", "pool/3.png")
    (folder / "a/back").symlink_to(folder, target_is_directory=True)
    (folder / "a/to_b").symlink_to(folder / "b", target_is_directory=True)
    (folder / "b/to_a").symlink_to(folder / "a", target_is_directory=True)
    (folder / "c").symlink_to(tmp_path / "pool", target_is_directory=True)
    assert image_files.find_images(folder).files == [
        "a/1.png",
        "a/to_b/2.png",
        "b/2.png",
        "b/to_a/1.png",
        "c/3.png",
    ]


def test_unreadable_images_among_the_first_are_named_in_one_warning(tmp_path, caplog):
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    for number, path in enumerate(paths):
        write(tmp_path / path, b"\x89PNG no image" if number in (1, 3) else png(1))
    with caplog.at_level("WARNING", logger="byol_keras"):
        assert image_files.common_channels(paths, tmp_path, max_bad_share=0.5) == 1
    (warning,) = caplog.messages
    assert warning.startswith(f"2 of 5 images examined in {tmp_path} cannot be read: ")
    flaw = "(no image: begins with b'\\x89PNG no imag')"
    assert warning.endswith(f"{paths[1]} {flaw}, {paths[3]} {flaw}")


@pytest.mark.parametrize(
    ("colours", "expected", "counts"),
    [
        ([], 1, None),
        (range(17), 3, None),
        (range(100), 3, None),
        (range(16, 100), 3, "16 are grey and 84 in colour"),
        (range(1, 100), 3, "1 are grey and 99 in colour"),
        ([57], 3, "99 are grey and 1 in colour"),
        ([99], 3, "99 are grey and 1 in colour"),
    ],
)
def test_channels_are_those_of_the_whole_folder(
    tmp_path, caplog, colours, expected, counts
):
    encoded = {channels: png(channels).numpy() for channels in (1, 3)}
    for number in range(max(100, len(colours)) if len(colours) != 17 else 17):
        write(tmp_path / f"{number:03}.png", encoded[3 if number in colours else 1])
    paths = sorted(map(str, tmp_path.iterdir()))
    with caplog.at_level("WARNING", logger="byol_keras"):
        assert image_files.common_channels(paths, tmp_path) == expected
    assert len(caplog.messages) == bool(counts)
    assert not counts or counts in caplog.messages[0]


def test_only_some_unreadable_images_are_named(tmp_path, caplog):
    paths = [str(tmp_path / f"{number:02}.png") for number in range(40)]
    write(pathlib.Path(paths[-1]), png(1))
    with caplog.at_level("WARNING", logger="byol_keras"):
        image_files.common_channels(paths, tmp_path, max_bad_share=1.0)
    (warning,) = caplog.messages
    assert warning.startswith("39 of 40 images examined")
    assert warning.count("(cannot be opened") == 8
    assert warning.endswith(", and 31 others")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("form", ["png", "tiff", "gif", "jpeg", "bmp", "webp", "ppm"])
def test_the_header_says_the_channels_that_decoding_gives(tmp_path, form, mode):
    path = tmp_path / f"1.{form}"
    try:
        Image.new(mode, (4, 3)).save(path)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"{form} does not store {mode}")
    decoded = channels_of(readable(path.read_bytes()))
    assert image_files._channels_in_header(path) == decoded


def test_channels_do_not_depend_on_unreadable_images(tmp_path):
    for number in range(30):
        write(tmp_path / f"{number}.png", png(3) if number == 17 else png(1))
        write(tmp_path / f"{number}.jpg", b"")
    paths = sorted(map(str, tmp_path.iterdir()))
    assert image_files.common_channels(paths, tmp_path, max_bad_share=0.6) == 3


@pytest.mark.parametrize("folder", [*image_files.FOREIGN_FOLDERS, "$Recycle.Bin"])
def test_folders_of_systems_are_left_out(tmp_path, folder):
    write_pngs(tmp_path, "a/1.png", f"{folder}/2.png", f"a/{folder}/3.png")
    assert image_files.find_images(tmp_path) == (["a/1.png"], {})


def forbid(monkeypatch, *folders):
    """Lets these folders fail like those that a user may not list."""
    scandir = os.scandir

    def refusing(path):
        if pathlib.Path(path) in folders:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_folder_that_cannot_be_listed_is_left_out_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    write_pngs(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    forbid(monkeypatch, tmp_path / "b")
    assert image_files.find_images(tmp_path).files == ["a/1.png", "c/3.png"]
    (line,) = caplog.messages
    reason = f"1 folder that cannot be listed, first {tmp_path}/b (Permission denied)"
    assert line == f"{tmp_path}: left out {reason}"


def test_images_in_folders_that_cannot_be_listed_are_none(tmp_path, monkeypatch):
    write_pngs(tmp_path, "a/1.png", "b/2.png")
    for folders in ((tmp_path,), (tmp_path / "a", tmp_path / "b")):
        forbid(monkeypatch, *folders)
        rule = "folders? that cannot be listed, first .* \\(Permission denied\\)"
        with pytest.raises(ValueError, match=f"must hold images .* with . {rule}"):
            image_files.find_images(tmp_path)
        monkeypatch.undo()


def test_only_the_most_frequent_endings_are_named():
    counts = collections.Counter({f".{n}": n for n in range(1, 12)})
    shown = image_files.counted(counts)
    assert shown.startswith("11 .11, 10 .10, ")
    assert shown.endswith("4 .4, 6 others")


@pytest.mark.parametrize(
    ("files", "there"),
    [
        (["1", "2", "3.jxl"], "2 without ending, 1 .jxl"),
        ([".hidden.png"], "no files"),
    ],
)
def test_what_a_folder_without_images_holds_is_said(tmp_path, files, there):
    for file in files:
        write(tmp_path / file, b"")
    with pytest.raises(ValueError, match=f"must hold images .*, with {there}"):
        image_files.find_images(tmp_path)


def test_other_files_are_counted_by_their_ending(tmp_path):
    write_pngs(tmp_path, "1.png", "2.JFIF", "3.ppm")
    for name in ("a.heicx", "b.HEICX", "b/c.txt", "readme", ".hidden.txt", "d.npy"):
        write(tmp_path / name, b"")
    found = image_files.find_images(tmp_path, otherwise=(".npy",))
    assert found.files == ["1.png", "2.JFIF", "3.ppm"]
    assert found.left_out == {".heicx": 2, ".txt": 1, "": 1, ".npy": 1}


def test_rows_hold_the_bytes_and_labels_of_the_files(tmp_path):
    write_pngs(tmp_path, "1.png", "2.png")
    paths = [str(tmp_path / "1.png"), str(tmp_path / "2.png")]
    rows = image_files.file_rows(paths, [[1, 0], [0, 1]], channels=3)
    examples = list(rows.ordered())
    assert [e["image"].numpy() for e in examples] == [png().numpy()] * 2
    assert [e["label"].numpy().tolist() for e in examples] == [[1, 0], [0, 1]]
    assert rows.labels().tolist() == [[1, 0], [0, 1]]


def test_contents_change_with_a_label_and_with_a_file(tmp_path):
    write_pngs(tmp_path, "1.png")
    path = str(tmp_path / "1.png")

    def contents(label):
        return list(image_files.file_rows([path], label, channels=3).contents())

    before = contents([0])
    assert contents([0]) == before
    assert contents([1]) != before
    assert contents(None) != before
    write(tmp_path / "1.png", b"other")
    assert contents([0]) != before
