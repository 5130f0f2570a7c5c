"""Mistakes are collected and reported together, one line each."""

import pytest
import tensorflow as tf

from byol_keras.runtime.errors import Findings, Mistakes, lines_of


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
