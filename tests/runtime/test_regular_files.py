"""Paths of regular files, and of others, which are not read."""

import os
import pathlib

import pytest

from byol_keras.runtime.regular_files import check_regular


def test_regular_files_and_links_to_them_are_accepted(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").symlink_to("a.png")
    check_regular(tmp_path / "a.png")
    check_regular(str(tmp_path / "b.png"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (pathlib.Path.mkdir, "not a regular file"),
        (lambda path: path.symlink_to(os.devnull), "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: None, "No such file"),
    ],
    ids=["pipe", "folder", "device", "link to nothing", "link to itself", "nothing"],
)
def test_others_are_errors_of_the_system(make, reason, tmp_path):
    make(tmp_path / "a.png")
    with pytest.raises(OSError, match=reason):
        check_regular(tmp_path / "a.png")
