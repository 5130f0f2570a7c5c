"""Mistakes are collected and reported together, one line each."""

import errno
import os

import pytest
import tensorflow as tf

from byol_keras.runtime.errors import (
    Findings,
    Mistakes,
    OutsideFailure,
    is_outside,
    lines_of,
    os_error_of,
)


def test_findings_note_every_mistake_once():
    findings = Findings(["a must be b. Received: c"])
    for error in (ValueError("x"), TypeError("y"), OSError("z"), ValueError("x")):
        with findings.noted():
            raise error
    assert findings.lines == ["a must be b. Received: c", "x", "y", "z"]


def test_findings_note_each_of_several_mistakes():
    findings = Findings()
    with findings.noted():
        raise Mistakes(["x", "y"])
    assert findings.lines == ["x", "y"]


def test_errors_of_other_kinds_pass():
    with pytest.raises(KeyError), Findings().noted():
        raise KeyError("a bug")


def test_only_findings_with_mistakes_raise():
    Findings().raise_all()
    with pytest.raises(Mistakes, match=r"x\ny"):
        Findings(["x", "y"]).raise_all()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "a must be b. Received: c\n  In call to configurable 'f' (<f>)",
            "a must be b.",
        ),
        (
            "wrong\n\n  In call to configurable 'f' (<f>)",
            "wrong (In call to configurab",
        ),
        ("one\ntwo", "one"),
        ("", "ValueError"),
    ],
)
def test_error_of_several_lines_is_one(message, expected):
    (line,) = lines_of(ValueError(message))
    assert line.startswith(expected)


def test_error_in_a_traced_function_is_shown_without_the_source():
    def fail(_):
        raise ValueError("a must be b. Received: c")

    with pytest.raises(ValueError) as error:
        tf.data.Dataset.range(1).map(fail)
    assert lines_of(error.value) == ("a must be b. Received: c",)


def system_error(code):
    return OSError(code, os.strerror(code), "file")


@pytest.mark.parametrize(
    "error, expected",
    [
        (system_error(errno.ENOSPC), True),
        (system_error(errno.EIO), True),
        (system_error(errno.ESTALE), True),
        (OutsideFailure("gone"), True),
        (system_error(errno.EACCES), False),
        (system_error(errno.ENOENT), False),
        (ValueError("a must be b"), False),
    ],
    ids=repr,
)
def test_full_disks_and_lost_networks_are_no_mistake_of_the_user(error, expected):
    assert is_outside(error) is expected
    with pytest.raises(ValueError) as caught:
        raise ValueError("out must be writable") from error
    assert is_outside(caught.value) is expected


@pytest.mark.parametrize("is_traced", [False, True])
def test_error_of_the_file_system_is_found_in_that_of_tensorflow(is_traced, tmp_path):
    names = tf.data.Dataset.from_tensors(str(tmp_path))
    with pytest.raises(tf.errors.OpError) as caught:
        if is_traced:
            list(names.map(tf.io.read_file))
        else:
            tf.io.read_file(str(tmp_path))
    found = os_error_of(caught.value)
    assert (found.errno, found.filename) == (errno.EISDIR, str(tmp_path))
    assert os_error_of(tf.errors.InternalError(None, None, "a bug; of ours")) is None
