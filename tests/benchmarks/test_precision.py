"""Precision is set inside a context only."""

import keras
import pytest

from byol_keras.benchmarks.precision import computing_in


def test_layers_made_inside_compute_in_the_precision_and_later_ones_do_not():
    with computing_in("mixed_bfloat16"):
        inside = keras.layers.Dense(1)
    assert inside.compute_dtype == "bfloat16"
    assert inside.variable_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_precision_is_restored_after_an_error():
    with pytest.raises(KeyError), computing_in("mixed_float16"):
        raise KeyError
    assert keras.config.dtype_policy().name == "float32"


def test_unknown_precision_is_one_line():
    with pytest.raises(ValueError, match=r"^precision must be one of .*: 'half'$"):
        computing_in("half").__enter__()
