"""A folder's images are counted, and their flaws are reported before a run."""

import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as PillowImage
from rich.console import Console

from byol_keras import data_check
from byol_keras.runtime.console import plain_console

from support import images
from support.datasets import write
from support.processes import command_line


def png(height, width, channels=3, value=None):
    rng = np.random.default_rng(height * 1000 + width)
    shape = (height, width, channels)
    pixels = rng.integers(0, 256, shape) if value is None else np.full(shape, value)
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    same = png(10, 20)
    for name, encoded in {
        "ant/1.png": same,
        "ant/2.png": png(30, 40),
        "ant/3.png": png(50, 60, channels=1),
        "bee/1.png": same,
        "bee/2.jpg": same,
        "bee/one_colour.png": png(8, 8, value=7),
        "bee/pixel.png": png(1, 1),
        "bee/empty.png": b"",
        "cat/text.jpg": b"no image at all",
    }.items():
        write(path / name, encoded)
    return path


def test_report_counts_what_is_in_the_folder(folder):
    report = data_check.check_folder(folder)
    assert (report["images"], report["readable"]) == (9, 7)
    assert report["classes"] == {"ant": 3, "bee": 4}
    assert report["formats"] == {"PNG": 7}
    assert report["channels"] == {"1": 1, "3": 6}
    assert report["height"] == {"min": 1, "median": 10.0, "max": 50}
    assert report["width"] == {"min": 1, "median": 20.0, "max": 60}
    assert report["unreadable"] == {
        "bee/empty.png": "empty file",
        "cat/text.jpg": "no image: begins with b'no image at '",
    }
    assert report["useless"] == {
        "bee/one_colour.png": "one colour",
        "bee/pixel.png": "1 pixel",
    }
    assert report["misnamed"] == ["bee/2.jpg"]
    assert report["duplicates"] == [["ant/1.png", "bee/1.png", "bee/2.jpg"]]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_different_pixel_is_enough_to_be_useful(channels, tmp_path):
    for name, place in (("first_row.png", (0, 5)), ("last.png", (-1, -1))):
        pixels = np.full((6, 8, channels), 9, np.uint8)
        pixels[place] = 10
        write(tmp_path / name, tf.io.encode_png(pixels))
    assert data_check.check_folder(tmp_path)["useless"] == {}


def test_transparency_alone_is_one_colour(tmp_path):
    pixels = np.full((6, 8, 4), 9, np.uint8)
    pixels[2:, 3:, 3] = 200
    write(tmp_path / "1.png", tf.io.encode_png(pixels))
    report = data_check.check_folder(tmp_path)
    assert report["useless"] == {"1.png": "one colour"}
    assert report["channels"] == {"4": 1}


def test_flat_folder_has_no_classes(tmp_path):
    write(tmp_path / "1.png", png(4, 4))
    assert data_check.check_folder(tmp_path)["classes"] is None


def test_folder_without_a_readable_image_has_no_sizes(tmp_path):
    write(tmp_path / "1.png", b"")
    report = data_check.check_folder(tmp_path)
    assert (report["readable"], report["height"], report["width"]) == (0, {}, {})


def test_report_does_not_depend_on_the_number_of_threads(folder):
    reports = [data_check.check_folder(folder, threads) for threads in (1, 8)]
    assert reports[0] == reports[1]


def test_odd_images_are_readable_and_broken_ones_have_their_reasons(tmp_path):
    images.write_all(tmp_path / "odd", images.ODD)
    images.write_all(tmp_path / "broken", images.BROKEN)
    report = data_check.check_folder(tmp_path)
    assert set(report["unreadable"]) == {f"broken/{n}" for n in images.BROKEN}
    assert set(report["misnamed"]) == {
        "odd/a JPEG named.png",
        "odd/a PNG named.jpg",
        "odd/a TIFF named.png",
    }
    expected = {"JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "PPM"}
    assert set(report["formats"]) == expected


def test_pipe_is_not_read_and_a_file_that_is_deleted_meanwhile_is_listed(
    tmp_path, monkeypatch
):
    for name in ("1.png", "2.png"):
        write(tmp_path / name, png(4, 4))
    os.mkfifo(tmp_path / "3.png")
    load = data_check.load_image

    def deleting(path):
        found = load(path)
        if path.endswith("1.png"):
            os.remove(path)
        return found

    monkeypatch.setattr(data_check, "load_image", deleting)
    report = data_check.check_folder(tmp_path)
    assert report["readable"] == 2
    assert report["unreadable"] == {"3.png": "cannot be opened: not a regular file"}


def test_other_files_are_counted_by_ending(tmp_path):
    for name in ("1.png", "2.heicx", "3.heicx", "4.txt"):
        write(tmp_path / name, png(4, 4))
    report = data_check.check_folder(tmp_path)
    assert report["left_out"] == {".heicx": 2, ".txt": 1}
    text = printed(report)
    assert "3 files are no images that can be read: 2 .heicx, 1 .txt" in text


def test_images_that_are_turned_are_counted(tmp_path):
    for number in (1, 6):
        exif = PillowImage.Exif()
        exif[0x0112] = number
        image = PillowImage.fromarray(images.gradient((20, 30)))
        write(tmp_path / f"{number}.jpg", images.encode(image, "jpeg", exif=exif))
        write(tmp_path / f"{number}.png", images.encode(image, "png", exif=exif))
    report = data_check.check_folder(tmp_path)
    assert report["turned"] == 2
    assert report["height"] == {"min": 20, "median": 25, "max": 30}


def dark_line(most, bits):
    return (
        f"16 bits, but at most {most} of 255 as it is read; values of {bits} bits need "
        f"image_folder.bits = {bits}"
    )


@pytest.mark.parametrize(
    ("highest", "form", "dark"),
    [
        (4095, "png", dark_line(15, 12)),
        (4095, "tiff", dark_line(15, 12)),
        (4095, "pgm", dark_line(15, 12)),
        (16383, "png", dark_line(63, 14)),
        (16384, "png", None),
    ],
)
def test_sixteen_bits_with_values_of_twelve_are_reported(tmp_path, highest, form, dark):
    values = np.linspace(0, highest, 64).round().astype(np.uint16).reshape(8, 8)
    PillowImage.fromarray(values).save(tmp_path / f"1.{form}")
    report = data_check.check_folder(tmp_path)
    assert report["dark"] == ({f"1.{form}": dark} if dark else {})
    assert not dark or dark in printed(report)


def test_dark_images_of_8_bits_are_as_they_are(tmp_path):
    write(tmp_path / "1.png", tf.io.encode_png(np.eye(8, dtype=np.uint8)[..., None]))
    assert data_check.check_folder(tmp_path)["dark"] == {}


def test_names_of_files_are_shown_as_they_are(tmp_path):
    folder = os.fsencode(tmp_path) + b"/a[x]"
    os.mkdir(folder)
    for name in (b"1[bold]2.png", b"3\xff4.png", b"5\t6.png"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"")
    report = data_check.check_folder(tmp_path)
    text = printed(report)
    for shown in ("a[x]/1[bold]2.png", "a[x]/3\\xff4.png", "a[x]/5\\t6.png"):
        assert shown in text
    assert json.loads(json.dumps(report)) == report


def printed(report):
    console = plain_console(width=200, record=True, file=io.StringIO())
    data_check.print_report(report, console)
    return console.export_text()


def test_printed_report_shows_the_first_of_many(folder):
    for number in range(25):
        write(folder / f"dog/{number}.png", b"")
    console = Console(width=100, record=True)
    data_check.print_report(data_check.check_folder(folder), console)
    text = console.export_text()
    assert "and 7 more" in text  # 27 are unreadable, 20 are shown
    for shown in ("PNG: 7", "min 1, median 10.0, max 50", "bee/2.jpg", "empty file"):
        assert shown in text


def test_command_ends_with_1_for_unreadable_images_and_writes_all(folder, tmp_path):
    file = tmp_path / "report.json"
    done = command_line("data_check", f"--path={folder}", f"--json={file}")
    assert done.returncode == data_check.EXIT_UNREADABLE, done.stderr
    assert json.loads(file.read_text()) == data_check.check_folder(folder)
    assert "bee/empty.png" in done.stdout


def test_command_ends_with_0_for_readable_images(tmp_path):
    write(tmp_path / "1.png", png(4, 4))
    assert command_line("data_check", f"--path={tmp_path}").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "error: --path must be the folder of images. Received: none"),
        (["--path=absent"], "error: --path must be an existing folder."),
        (["--pth=absent"], "error: arguments must be flags of this command ("),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(arguments, expected):
    done = command_line("data_check", *arguments)
    assert done.returncode == 2
    errors = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(expected)
