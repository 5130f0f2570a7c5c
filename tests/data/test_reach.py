"""Images that are out of reach for a while are waited for, and not unreadable."""

import errno
import os
import threading

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import reach
from byol_keras.data.reach import OutOfReach, Reach
from byol_keras.data.unreadable import listed_in
from byol_keras.runtime.errors import is_outside

from support.datasets import write


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(reach, "_BETWEEN", 0.01)
    monkeypatch.setattr(reach, "LONGEST_WAIT", 0.3)


@pytest.fixture
def folder(tmp_path):
    """40 images whose pixels are their number."""
    for number in range(40):
        image = tf.io.encode_png(np.full((4, 5, 1), number, np.uint8))
        write(tmp_path / "images" / f"{number:02}.png", image)
    return tmp_path / "images"


def numbers_of(source):
    stream = source.stream(seed=0, shuffle=False).take(source.num_examples)
    return [int(source.decode(x["image"])[0, 0, 0]) for x in stream]


def away(folder):
    """Takes a folder away; where it is then."""
    return folder.rename(folder.with_name("elsewhere"))


@pytest.fixture
def away_for_a_while(monkeypatch):
    """Takes a folder away, and brings it back while reading waits."""

    def take_away(folder):
        elsewhere, waits = away(folder), []

        def pause(seconds):
            waits.append(seconds)
            if len(waits) == 20:
                elsewhere.rename(folder)

        monkeypatch.setattr(reach, "LONGEST_WAIT", 60.0)
        monkeypatch.setattr(reach, "pause", pause)

    return take_away


@pytest.mark.parametrize("is_known", [False, True])
def test_folder_that_comes_back_is_read_as_if_it_had_not_been_away(
    is_known, folder, tmp_path, away_for_a_while, caplog
):
    source = data.image_folder(folder, channels=1)
    digest = source.digest()
    if is_known:
        numbers_of(source)
    caplog.clear()
    away_for_a_while(folder)
    with listed_in(tmp_path / "bad_images.txt"):
        assert numbers_of(source) == [*range(40)]
    assert source.unreadable() == []
    assert source.digest() == digest
    assert not (tmp_path / "bad_images.txt").exists()
    out, back = caplog.messages
    assert out.startswith(f"images are out of reach, such as {folder}")
    assert out.endswith("(No such file or directory); waiting for up to 60 seconds")
    assert back == "images are within reach again"


def test_folder_that_stays_away_is_one_line_and_no_image_of_it_is_unreadable(
    folder, tmp_path
):
    source = data.image_folder(folder, channels=1)
    numbers_of(source)
    elsewhere = away(folder)
    with pytest.raises(OutOfReach) as stop, listed_in(tmp_path / "bad_images.txt"):
        numbers_of(source)
    message = str(stop.value)
    assert message.startswith("images must be within reach, but none could be opened")
    assert message.endswith(".png (No such file or directory)")
    assert "\n" not in message
    assert is_outside(stop.value)
    assert source.unreadable() == []
    assert not (tmp_path / "bad_images.txt").exists()
    elsewhere.rename(folder)
    assert numbers_of(source) == [*range(40)]


def test_digest_waits_and_is_not_that_of_missing_files(folder, away_for_a_while):
    source = data.image_folder(folder, channels=1)
    digest = source.digest()
    elsewhere = away(folder)
    with pytest.raises(OutOfReach):
        source.digest()
    elsewhere.rename(folder)
    away_for_a_while(folder)
    assert source.digest() == digest


def test_examination_of_all_images_waits_too(folder, away_for_a_while):
    source = data.image_folder(folder, channels=1)
    away_for_a_while(folder)
    assert source.readable() is source


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EACCES]
)
def test_error_of_the_system_in_all_images_is_named(code, folder, monkeypatch):
    source = data.image_folder(folder, channels=1)
    status = os.stat

    def failing(path, *arguments, **options):
        if str(path).startswith(str(folder)):
            raise OSError(code, os.strerror(code), str(path))
        return status(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OutOfReach, match=os.strerror(code)), listed_in(None):
        numbers_of(source)


def test_image_whose_turn_it_is_not_to_wait_for_is_unreadable_at_once(folder, caplog):
    source = data.image_folder(folder, channels=1)
    (folder / "07.png").unlink()
    caplog.clear()
    assert numbers_of(source)[7] == 8
    assert not any("out of reach" in message for message in caplog.messages)
    (bad,) = source.unreadable()
    assert bad.reason == "cannot be opened: No such file or directory"


def test_known_image_that_cannot_be_read_any_more_is_one_line(folder):
    source = data.image_folder(folder, channels=1)
    numbers_of(source)
    (folder / "07.png").unlink()
    (folder / "07.png").mkdir()  # it is there, but reading it fails
    with pytest.raises(OutOfReach) as stop, listed_in(None):
        numbers_of(source)
    assert str(stop.value) == (
        f"images must be within reach. Received: {folder}/07.png (Is a directory)"
    )


def test_threads_give_up_together(folder):
    paths = sorted(map(str, folder.iterdir()))
    shared = Reach(paths)
    away(folder)
    found = []

    def wait(path):
        try:
            shared.wait(path)
        except OutOfReach as error:
            found.append(error)

    threads = [threading.Thread(target=wait, args=[path]) for path in paths[:8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5.0)
    assert len(found) == 8
