import numpy as np
import pytest

from byol_keras.runtime.argument_checks import (
    check_choice,
    check_int,
    check_positive_ints,
    existing_folder,
    is_int,
    is_positive_int,
)


@pytest.mark.parametrize("value", [1, 2**40, np.int32(3), np.uint8(1)])
def test_integers_of_python_and_numpy_are_positive_ints(value):
    assert is_positive_int(value)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, np.float32(1)])
def test_zero_bool_float_text_and_none_are_no_positive_ints(value):
    assert not is_positive_int(value)


def test_lower_bound_is_included():
    assert is_int(8, least=8)
    assert not is_int(7, least=8)


def test_first_wrong_argument_is_named_with_its_value():
    rule = r"^epochs must be a positive int\. Received: '3'$"
    with pytest.raises(ValueError, match=rule):
        check_positive_ints(batch_size=32, epochs="3", steps=0)


def test_other_lower_bounds_are_part_of_the_rule():
    check_int("seed", 0, least=0)
    with pytest.raises(ValueError, match=r"^seed must be an int of at least 0\. .*-1$"):
        check_int("seed", -1, least=0)


def test_choice_error_lists_the_choices():
    check_choice("form", "b", ("a", "b"))
    rule = r"^form must be one of \('a', 'b'\)\. Received: 'c'$"
    with pytest.raises(ValueError, match=rule):
        check_choice("form", "c", {"a": 1, "b": 2})


def test_url_is_no_existing_folder():
    rule = "^path must be a local path; URLs are not .* Received: gs://bucket/run$"
    with pytest.raises(ValueError, match=rule):
        existing_folder("path", "gs://bucket/run")


def test_empty_text_is_not_the_working_directory():
    with pytest.raises(ValueError, match=r"^path must be an existing .*: none$"):
        existing_folder("path", "")
