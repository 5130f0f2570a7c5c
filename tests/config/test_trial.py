"""The trial makes what can be made, and reports each failure once."""

import gin
import pytest

from byol_keras.config.trial import Trial
from byol_keras.runtime.errors import Findings

made = []


class Data:
    pass


@gin.register(module="test_trial")
def read(path) -> Data:
    raise AssertionError("data were read")


@gin.register(module="test_trial")
class Part:
    def __init__(self, size=1):
        if size < 1:
            raise ValueError(f"size must be a positive int. Received: {size}")
        made.append(size)


@gin.register(module="test_trial")
class Whole:
    def __init__(self, parts=(), data=None):
        made.append("whole")


@gin.register(module="test_trial")
def fragile(size: int, names=()):
    raise KeyError("no such key")


@gin.register(module="test_trial")
def build(channels, whole=None):
    return channels, whole


@gin.register(module="test_trial")
def choosy(channels, suits=3):
    if channels != suits:
        raise ValueError(f"channels must be {suits}. Received: {channels}")


@gin.register(module="test_trial")
def attempt(build_fn=None, extra=None):
    pass


@pytest.fixture(autouse=True)
def nothing_is_made():
    made.clear()


def trial(*lines):
    gin.clear_config()
    gin.parse_config(list(lines))
    found = Findings()
    return Trial("test_trial.attempt", unlike=Data, found=found), found


def test_parts_are_made_before_the_whole():
    _, found = trial(
        "attempt.extra = @Whole()",
        "Whole.parts = [@Part(), @a/Part()]",
        "a/Part.size = 2",
    )
    assert found.lines == []
    # Gin makes the parts again for the whole.
    assert made == [1, 2, 1, 2, "whole"]


def test_every_failing_part_is_reported_and_the_whole_is_left_out():
    _, found = trial(
        "attempt.extra = @Whole()",
        "Whole.parts = [@a/Part(), @b/Part()]",
        "a/Part.size = 0",
        "b/Part.size = -1",
    )
    assert found.lines == [
        "Part.size must be a positive int. Received: 0",
        "Part.size must be a positive int. Received: -1",
    ]
    assert made == []


@pytest.mark.parametrize(
    "line", ["Whole.data = @read()\nread.path = 'x'", "Whole.parts = [@fragile()]"]
)
def test_data_and_calls_without_their_arguments_are_left_out(line):
    _, found = trial("attempt.extra = @Whole()", *line.split("\n"))
    assert found.lines == []
    assert made == []


def test_error_of_any_kind_is_shown_with_what_is_bound():
    _, found = trial("attempt.extra = @a/fragile()", "a/fragile.size = 7")
    (line,) = found.lines
    assert line.startswith("fragile must be given what it takes (")
    assert "no such key" in line
    assert line.endswith("Received: size=7")


def test_value_of_a_wrong_type_is_not_tried():
    _, found = trial("attempt.extra = @fragile()", "fragile.size = 'x'")
    assert found.lines == []


@pytest.mark.parametrize("line", ["attempt.build_fn = @build", "attempt.build_fn = %B"])
def test_function_is_called_with_what_code_passes(line):
    tried, found = trial(line, "B = @build", "build.whole = @Whole()")
    channels, whole = tried.call("build_fn", channels=3)
    assert channels == 3
    assert isinstance(whole, Whole)
    assert found.lines == []


@pytest.mark.parametrize(
    "line",
    [
        "attempt.extra = 1",
        "attempt.build_fn = 3",
        "attempt.build_fn = @build()",
        "attempt.build_fn = @build\nbuild.whole = @Part()\nPart.size = 0",
    ],
)
def test_function_that_cannot_be_called_gives_nothing(line):
    tried, _ = trial(*line.split("\n"))
    assert tried.call("build_fn", channels=3) is None


@pytest.mark.parametrize(
    ("suits", "unlike", "expected"),
    [
        (3, (), []),
        (1, (), []),
        (13, (), ["choosy.channels must be 13. Received: 3"]),
        (13, ValueError, []),
        (13, KeyError, ["choosy.channels must be 13. Received: 3"]),
    ],
)
def test_only_a_mistake_for_all_values_is_found(suits, unlike, expected):
    tried, found = trial("attempt.build_fn = @choosy", f"choosy.suits = {suits}")
    tried.call_with_any("build_fn", "channels", (3, 1), unlike)
    assert found.lines == expected
