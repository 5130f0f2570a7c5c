import numpy as np
import pytest

from byol_keras.losses import BYOLLoss

# After byol_keras, which sets what TensorFlow reads when it is imported.
import keras  # isort: skip
import tensorflow as tf  # isort: skip


def _value_and_gradient(y_true, y_pred):
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = BYOLLoss(reduction="none")(y_true, y_pred)
    return loss.numpy(), tape.gradient(loss, y_pred).numpy()


def test_value_and_gradient_of_the_345_triangle():
    loss, gradient = _value_and_gradient([[4.0, 3.0]], [[3.0, 4.0]])
    np.testing.assert_allclose(loss, [0.08], rtol=1e-5)
    np.testing.assert_allclose(gradient, [[-0.0896, 0.0672]], rtol=1e-5)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ([[2.0, 0.0, -1.0]], [[1.0, 2.0, 2.0]], 2.0),
        ([[1.0, 2.0, 2.0]], [[3.0, 6.0, 6.0]], 0.0),
        ([[1.0, 2.0, 2.0]], [[-1.0, -2.0, -2.0]], 4.0),
    ],
    ids=["orthogonal", "parallel", "opposite"],
)
def test_loss_is_2_orthogonal_0_parallel_and_4_opposite(y_true, y_pred, expected):
    loss = BYOLLoss(reduction="none")(y_true, y_pred)
    np.testing.assert_allclose(loss, [expected], atol=1e-6)


def test_two_directions_sum_to_the_paper_loss_averaged_over_the_batch():
    p1, z2 = [[1.0, 2, 2], [0, 3, 4]], [[2.0, 1, 2], [0, 4, 3]]
    p2, z1 = [[1.0, 0, 0], [1, 1, 0]], [[1.0, 1, 0], [1, 1, 1]]
    loss = BYOLLoss()
    np.testing.assert_allclose(loss(z2, p1) + loss(z1, p2), 0.6275077489968, rtol=1e-6)


def test_call_returns_one_loss_per_example():
    loss = BYOLLoss().call([[4.0, 3.0], [2.0, 0.0]], [[3.0, 4.0], [0.0, 7.0]])
    np.testing.assert_allclose(loss, [0.08, 2.0], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_inputs_give_a_float32_loss(dtype):
    # Squares of 300 overflow in float16; all of these numbers are exact in both types.
    y_true = tf.constant([[320.0, 240.0]], dtype)
    y_pred = tf.constant([[240.0, 320.0]], dtype)
    loss = BYOLLoss()(y_true, y_pred)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, 0.08, rtol=1e-5)


def test_loss_stays_float32_where_the_default_float_is_float16():
    try:
        keras.config.set_floatx("float16")
        loss = BYOLLoss()([[4.0, 3.0]], [[3.0, 4.0]])
    finally:
        keras.config.set_floatx("float32")
    assert loss.dtype == tf.float32


@pytest.mark.parametrize("zero", ["y_true", "y_pred"])
def test_zero_vector_has_loss_2_and_a_finite_gradient(zero):
    vectors = {"y_true": [[3.0, 4.0]], "y_pred": [[4.0, 3.0]], zero: [[0.0, 0.0]]}
    loss, gradient = _value_and_gradient(**vectors)
    np.testing.assert_array_equal(loss, [2.0])
    assert np.all(np.isfinite(gradient))


def test_floor_of_the_normalisation_bounds_the_squared_norm_at_1e_12():
    # 1e-8 / sqrt(1e-12) = 0.01 is its cosine; a floor on the norm would give 1.
    loss = BYOLLoss()([[1.0, 0.0]], [[1e-8, 0.0]])
    np.testing.assert_allclose(loss, 2.0 - 2.0 * 0.01, rtol=1e-6)


def test_loss_survives_serialisation():
    loss = BYOLLoss(reduction="sum", name="one_direction")
    config = keras.losses.serialize(loss)
    restored = keras.losses.deserialize(config)
    assert type(restored) is BYOLLoss
    assert restored.get_config() == loss.get_config()
    assert (restored.reduction, restored.name) == ("sum", "one_direction")
