"""Variables as arrays under names that do not depend on the process."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL
from byol_keras.checkpoints import variables


def small_byol(units=4):
    images = keras.Input((2, 2, 1))
    x = keras.layers.Dense(3)(keras.layers.Flatten()(images))
    model = BYOL(keras.Model(images, keras.layers.BatchNormalization()(x)), units, 2)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    return model


def test_names_are_the_same_for_the_second_model_of_a_process():
    first, second = small_byol(), small_byol()
    assert [v.path for v in first.variables] != [v.path for v in second.variables]
    assert list(variables.variables_of(first)) == list(variables.variables_of(second))


def test_every_variable_is_named_once():
    model = small_byol()
    named = [id(v) for v in variables.variables_of(model).values()]
    everything = {id(v) for v in (*model.variables, *model.optimizer.variables)}
    assert len(named) == len(set(named))
    assert everything < set(named)  # the metrics too


def test_arrays_are_copies_and_restore_every_variable():
    model = small_byol()
    before = variables.arrays_of(model)
    for variable in variables.variables_of(model).values():
        variable.assign(tf.ones_like(variable))
    assert any(np.any(before[name] != 1) for name in before)
    other = small_byol()
    variables.load_arrays(other, {**before, "callbacks/x/y": np.ones(1)}, "path")
    found = variables.arrays_of(other)
    for name, array in before.items():
        np.testing.assert_array_equal(found[name], array)


def change(arrays, **changes):
    return {k: v for k, v in (arrays | changes).items() if v is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"online/0000": None},
        {"online/9999": np.ones(1)},
        {"online/0000": np.ones((5, 5))},
    ],
    ids=["missing", "surplus", "shape"],
)
def test_arrays_of_another_model_are_refused_before_any_is_assigned(changes):
    model = small_byol()
    before = variables.arrays_of(model)
    arrays = {name: array + 1 for name, array in before.items()}
    arrays = change(arrays, **changes)
    with pytest.raises(ValueError, match=r"where 1 variables differ, first online/"):
        variables.load_arrays(model, arrays, "path")
    for name, array in variables.arrays_of(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_bfloat16_survives_the_file(tmp_path):
    model = small_byol()
    kernel = variables.variables_of(model)["online/0000"]
    values = tf.cast(tf.reshape(tf.range(12.0) / 7, kernel.shape), tf.bfloat16)
    np.savez(tmp_path / "a.npz", x=values.numpy())
    with np.load(tmp_path / "a.npz") as saved:
        stored = saved["x"]
    assert stored.dtype.kind == "V"
    found = variables._as_dtype(stored, tf.bfloat16)
    np.testing.assert_array_equal(found, values.numpy())
