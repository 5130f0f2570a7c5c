import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.byol import BYOL
from byol_keras.keras_workarounds import reducible, share_overflow

from support.small_byol import (
    LazyBackbone,
    all_variables,
    arrays,
    dense_byol,
    fit,
    two_replicas,
    views,
)


@pytest.fixture(autouse=True)
def _same_initial_weights():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize(
    "strategy_fn",
    [tf.distribute.get_strategy, two_replicas],
    ids=["one_device", "two_devices"],
)
def test_step_whose_gradients_overflow_moves_no_network(strategy_fn):
    keras.config.set_dtype_policy("mixed_float16")
    with strategy_fn().scope():
        model = dense_byol()
    before = arrays(all_variables(model))
    pair = views(8)
    pair[0][-1] = np.inf  # the last image: on two devices, seen by the second alone
    fit(model, pair, 8)
    for after, value in zip(arrays(all_variables(model)), before, strict=True):
        np.testing.assert_array_equal(after, value)
    assert model.optimizer.iterations.numpy() == 0
    np.testing.assert_allclose(model.optimizer.dynamic_scale, 2.0**14)


@pytest.mark.parametrize(
    "strategy_fn",
    [tf.distribute.get_strategy, lambda: tf.distribute.OneDeviceStrategy("CPU:0")],
    ids=["no_strategy", "strategy"],
)
def test_target_of_a_backbone_that_fit_builds_starts_as_a_copy(strategy_fn):
    with strategy_fn().scope():
        model = BYOL(LazyBackbone(4), 8, 3)
    assert not model.built
    fit(model, views(8), 8, lambda: keras.optimizers.SGD(0.0), tau=1.0)
    # Training leaves weights alone at this rate and tau; only statistics have moved.
    for online, target in zip(
        model.online.trainable_variables, model.target.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(*arrays([online, target]))


def test_unbuilt_backbone_is_built_from_arrays_too():
    model = BYOL(LazyBackbone(4), 8, 3)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False, run_eagerly=True)
    model.fit(*views(8), batch_size=8, verbose=0)
    assert model.online.backbone.dense.kernel.shape == (5, 4)
    assert model.optimizer.iterations.numpy() == 1


def test_unbuilt_backbone_and_a_generator_are_refused():
    model = BYOL(LazyBackbone(4), 8, 3)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"must be built before fit.*generator$"):
        model.fit(tuple(views(8)) for _ in range(1))


def test_unbuilt_backbone_with_a_feature_map_is_refused_by_fit_in_one_line():
    model = BYOL(LazyBackbone(4, rank=4), 8, 3)
    with pytest.raises(ValueError, match=r"^backbone.*\(None, 1, 1, 4\)") as error:
        fit(model, views(8), 8)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("parts", [1, 3])
def test_dataset_that_does_not_yield_two_views_is_refused(parts):
    model = dense_byol()
    model.compile("sgd", jit_compile=False)
    view = views(8)[0]
    data = (view,) * parts if parts > 1 else view
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(8)
    with pytest.raises(ValueError, match=r"^dataset must yield \(view1, view2\)"):
        model.fit(dataset, shuffle=False, verbose=0)


def test_gradients_without_loss_scaling_stay_as_they_are():
    gradients = [tf.constant(np.inf), None]
    assert share_overflow(keras.optimizers.SGD(), gradients) is gradients


def test_finite_gradients_with_loss_scaling_keep_their_values():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    shared = share_overflow(optimizer, [tf.constant([1.0, 2.0]), None])
    np.testing.assert_array_equal(shared[0], [1.0, 2.0])
    assert shared[1] is None


def test_one_overflow_makes_all_gradients_non_finite():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    first, second = share_overflow(optimizer, [tf.constant(1.0), tf.constant(np.inf)])
    assert not np.isfinite([first, second]).any()


def test_logs_are_scalars_outside_of_several_workers():
    assert reducible({"loss": tf.constant(1.0)})["loss"].shape == ()
