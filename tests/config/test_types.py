"""Types of arguments: where they are read from, what they accept, how they read."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import pytest

from byol_keras.config.types import Returned, accepts, describe, parameters_of, type_of


class Base:
    def __init__(self, name, size=1, **unknown):
        pass


class Layer(Base):
    """A layer.

    Args:
        rate: float in 0..1.
        mode, kind: str.
        either: int or float.
    """

    def __init__(self, rate, mode=None, kind=None, either=None, **keywords):
        super().__init__("layer", **keywords)


class Closed(Base):
    def __init__(self, rate):
        super().__init__("closed")


def test_class_that_passes_keywords_on_has_the_arguments_of_its_bases():
    names = parameters_of(Layer)
    assert [*names] == ["rate", "mode", "kind", "either", "name", "size"]
    # The class passes `name` itself, so that no binding has to.
    assert names["rate"].default is names["rate"].empty
    assert names["name"].default is None
    assert [*parameters_of(Closed)] == ["rate"]
    assert "weight_decay" in parameters_of(keras.optimizers.Adam)


def test_function_that_takes_any_name_has_no_known_arguments():
    assert parameters_of(lambda a, **others: None) is None
    assert [*parameters_of(lambda a, *b: None)] == ["a", "b"]


def function(annotated: int, flag=True, text="a", number=3, pair=(1, 2), empty=()):
    pass


@pytest.mark.parametrize(
    ("owner", "parameter", "kind"),
    [
        (function, "annotated", int),
        (function, "flag", bool),
        (function, "text", str),
        (function, "number", float | Sequence[float]),
        (function, "empty", Any),
        (function, "absent", Any),
        (Layer, "rate", float),
        (Layer, "mode", str),
        (Layer, "kind", str),
        (Layer, "either", Any),
    ],
)
def test_type_comes_from_annotation_docstring_or_default(owner, parameter, kind):
    assert type_of(owner, parameter, "elsewhere") == kind


def test_only_a_function_of_another_package_takes_a_number_for_a_list():
    package = __name__.partition(".")[0]
    assert type_of(function, "pair", package) == Sequence
    assert type_of(function, "pair", "elsewhere") == Sequence | float


@pytest.mark.parametrize(
    ("kind", "words", "good", "bad"),
    [
        (int, "an int", [0, -3], [1.0, True, "1", None]),
        (float, "a number", [0, 1.5], [True, "1.5"]),
        (bool, "True or False", [True], [1, "True"]),
        (str, "a string", ["a"], [1]),
        (os.PathLike, "a string", ["a"], [1]),
        (str | None, "a string or None", ["a", None], [1]),
        (list, "a list", [[1], ("a",)], ["ab", 1]),
        (Sequence[int], "a list of ints", [[1, 2], ()], [[1.5], 1]),
        (Sequence[int | str], "a list of ints or strings", [[1, "a"]], [[None]]),
        (tuple[float, float], "a 2-tuple of numbers", [(1, 2.0)], [(1,), (1, "a")]),
        (tuple[int, ...], "a list of ints", [(1, 2, 3)], [(1.5,)]),
        (Sequence[Sequence[str]], "a list of lists of strings", [[["a"]]], [["a"]]),
        (Mapping[str, int], "a dict", [{"a": 1}], [[1]]),
        (Callable, "a function, as @name", [len, Layer], ["len"]),
        (Sequence[Callable], "a list of functions, as @name", [[len]], [[3]]),
        (Layer, "Layer, as @name()", [Layer(1)], [3]),
        (Any, "Any, as @name()", [None, "a"], []),
    ],
)
def test_type_accepts_values_and_has_words(kind, words, good, bad):
    assert describe(kind) == words
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


def test_result_of_a_call_is_judged_by_its_class():
    assert accepts(Base, Returned(Layer))
    assert accepts(Base, Returned(None))
    assert not accepts(Layer, Returned(Base))
    assert not accepts(int, Returned(Layer))
