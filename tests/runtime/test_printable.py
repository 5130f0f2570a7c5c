"""Names of files are shown in one line, whatever their characters."""

import os
import pathlib

import pytest

from byol_keras.runtime.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a [/b] ü.png", "a [/b] ü.png"),
        ("a\tb\nc", "a\\tb\\nc"),
        (os.fsdecode(b"\xff.png"), "\\xff.png"),
        ("\ud83d", "\\ud83d"),
        ("a\x85b\u2028c\x1b[0m", "a\\x85b\\u2028c\\x1b[0m"),
        (pathlib.Path("a/b"), "a/b"),
    ],
)
def test_odd_characters_are_escaped(name, shown):
    assert printable(name) == shown
    assert printable(name).encode("utf-8").decode().splitlines() == [shown]
