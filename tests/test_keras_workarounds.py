import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA
from byol_keras.keras_workarounds import (
    check_optimizer,
    reducible,
    share_overflow,
    two_views,
)

from support.small_byol import (
    LazyBackbone,
    all_variables,
    arrays,
    dense_backbone,
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


# --- What is refused before the first step --------------------------------------------

FEW = r"^batch_size per replica must be at least 2 x accumulation_steps = {}, since "


def compiled(optimizer=None, eager=False, **kwargs):
    model = BYOL(dense_backbone(), 8, 3, **kwargs)
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, jit_compile=False, run_eagerly=eager)
    return model


def batches(images, batch_size, static=False):
    data = tf.data.Dataset.from_tensor_slices(tuple(views(images)))
    return data.batch(batch_size, drop_remainder=static)


def train(model, *data, **kwargs):
    ema = TargetEMA(0.9, total_steps=10)
    kwargs = {"shuffle": False, "verbose": 0, "callbacks": [ema], **kwargs}
    return model.fit(*data, **kwargs).history


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_one_image_per_micro_batch_is_refused_and_nothing_moves(
    accumulation_steps, static
):
    model = compiled(accumulation_steps=accumulation_steps)
    before = arrays(all_variables(model))
    rule = FEW.format(2 * accumulation_steps)
    received = rf".*Received: {accumulation_steps}$"
    with pytest.raises(ValueError, match=rule + received):
        train(model, batches(8, accumulation_steps, static))
    for after, value in zip(arrays(all_variables(model)), before, strict=True):
        np.testing.assert_array_equal(after, value)


def test_arrays_in_batches_of_one_and_a_last_batch_of_one_are_refused():
    model = compiled()
    with pytest.raises(ValueError, match=FEW.format(2) + r".*Received: 1$"):
        train(model, *views(8), batch_size=1)
    with pytest.raises(ValueError, match=r"drop_remainder=True.* Received: 1$"):
        train(model, batches(9, 4))


def test_one_image_on_each_of_two_replicas_is_refused():
    with two_replicas().scope():
        model = compiled()
    with pytest.raises(ValueError, match=FEW.format(2) + r".*Received: 1$"):
        train(model, batches(4, 2))


def test_two_images_per_micro_batch_move_the_weights():
    model = compiled(eager=True, accumulation_steps=2)
    before = arrays(model.online.trainable_variables)
    train(model, batches(4, 4))
    after = arrays(model.online.trainable_variables)
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) > 1e-4


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_is_refused_on_two_replicas_alone(name):
    optimizer = keras.optimizers.SGD(0.1, **{name: 0.5})
    check_optimizer(optimizer, tf.distribute.get_strategy())
    rule = rf"^SGD\.{name} must be None on more than one replica.*Received: 0\.5, on 2"
    wrapped = keras.optimizers.LossScaleOptimizer(optimizer)
    for refused in (optimizer, wrapped):
        with pytest.raises(ValueError, match=rule):
            check_optimizer(refused, two_replicas())


def test_fit_refuses_clipping_on_two_replicas():
    with two_replicas().scope():
        model = compiled(keras.optimizers.SGD(0.1, clipnorm=1.0))
    with pytest.raises(ValueError, match=r"^SGD\.clipnorm must be None on more"):
        train(model, batches(8, 8))


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
@pytest.mark.parametrize("loop", ["train_on_batch", "strategy.run"])
def test_loops_without_fit_refuse_clipping_on_two_replicas(name, loop):
    strategy = two_replicas()
    with strategy.scope():
        model = compiled(keras.optimizers.SGD(0.1, **{name: 1.0}))
        model.optimizer.build(model.trainable_variables)
    (batch,) = batches(8, 8)
    with pytest.raises(ValueError, match=rf"SGD\.{name} must be None on more"):
        if loop == "strategy.run":
            strategy.run(tf.function(model.train_step), args=(batch,))
        else:
            model.train_on_batch(batch)


def test_gradient_accumulation_of_keras_is_refused_by_name():
    model = compiled(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    with pytest.raises(ValueError) as error:
        train(model, batches(8, 4))
    assert str(error.value) == (
        "SGD.gradient_accumulation_steps must be None; BYOL splits a batch by its own "
        "accumulation_steps. Received: 2"
    )


# --- fit without TargetEMA, and evaluate ----------------------------------------------


def test_fit_warns_once_where_nothing_moves_the_target():
    model = compiled(eager=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(model, batches(8, 4), callbacks=keras.callbacks.TerminateOnNaN())
        lines = [str(w.message) for w in caught if "TargetEMA" in str(w.message)]
    assert lines == [
        "callbacks of fit must contain TargetEMA: the target never moves unless a "
        "callback calls update_target. Received: TerminateOnNaN"
    ]


@pytest.mark.parametrize(
    ("of_compile", "of_fit"),
    [
        ({"loss": "mse"}, {}),
        ({"metrics": ["accuracy"]}, {}),
        ({}, {"sample_weight": np.ones(8)}),
        ({}, {"class_weight": {0: 1.0}}),
    ],
)
def test_fit_refuses_what_the_step_would_not_use(of_compile, of_fit):
    model = compiled(eager=True)
    model.compile("sgd", **of_compile)
    (name,) = {**of_compile, **of_fit}
    with pytest.raises(ValueError, match=f"^{name} must be None: BYOL has its own"):
        train(model, batches(8, 4), **of_fit)


def test_fit_refuses_a_model_without_trainable_weights():
    model = compiled(eager=True)
    model.trainable = False
    with pytest.raises(ValueError, match="must have trainable weights"):
        train(model, batches(8, 4))


def test_fit_refuses_to_move_the_target_twice_a_step():
    emas = [TargetEMA(0.9, total_steps=10) for _ in range(2)]
    with pytest.raises(ValueError, match=r"one TargetEMA: .*TargetEMA, TargetEMA$"):
        train(compiled(eager=True), batches(8, 4), callbacks=emas)


@pytest.mark.parametrize("as_list", [True, False])
def test_fit_with_target_ema_does_not_warn(as_list):
    ema = TargetEMA(0.9, total_steps=10)
    model = compiled(eager=True)
    listed = keras.callbacks.CallbackList([ema], add_history=True, model=model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "callbacks of fit")
        train(model, batches(8, 4), callbacks=[ema] if as_list else listed)


def expected_loss(model, view1, view2):
    """Loss in inference mode, by the formula of the paper, in NumPy."""

    def direction(online, target):
        p = np.asarray(model.predictor(model.online(online)), "float64")
        z = np.asarray(model.target(target), "float64")
        p, z = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (p, z))
        return np.sum((p - z) ** 2, axis=1)

    return float(np.mean(direction(view1, view2) + direction(view2, view1)))


@pytest.mark.parametrize(
    "strategy_fn", [tf.distribute.get_strategy, two_replicas], ids=["one", "two"]
)
def test_evaluate_is_the_mean_loss_over_all_images_and_moves_nothing(strategy_fn):
    with strategy_fn().scope():
        model = compiled(target_init="random")
    train(model, batches(8, 8))
    before = arrays(all_variables(model))
    # The last batch is one image: on two devices the second has none.
    loss = model.evaluate(batches(9, 4), verbose=0)
    assert loss == pytest.approx(expected_loss(model, *views(9)), abs=1e-5)
    assert 0.1 < loss < 8.0
    for after, value in zip(arrays(all_variables(model)), before, strict=True):
        np.testing.assert_array_equal(after, value)


def test_evaluate_takes_arrays_and_a_pair_before_any_training():
    model = BYOL(LazyBackbone(4), 8, 3)
    model.compile("sgd", jit_compile=False, run_eagerly=True)
    pair = tuple(views(6))
    found = model.evaluate(pair, batch_size=3, verbose=0, return_dict=True)
    assert found == {"loss": pytest.approx(expected_loss(model, *pair), abs=1e-5)}
    assert model.evaluate(*pair, verbose=0) == pytest.approx(found["loss"], abs=1e-5)


@pytest.mark.parametrize("kind", ["dataset", "arrays"])
def test_validation_data_give_the_loss_after_the_epoch(kind):
    model = compiled(eager=True)
    pair = tuple(views(5, seed=1))
    given = pair
    if kind == "dataset":
        given = tf.data.Dataset.from_tensor_slices(pair).batch(2)
    history = train(model, batches(8, 4), validation_data=given)
    assert history["val_loss"] == [pytest.approx(expected_loss(model, *pair), abs=1e-5)]


def test_pair_as_one_argument_and_single_batches_train():
    model = compiled(eager=True)
    pair = tuple(views(8))
    assert len(train(model, pair, batch_size=4)["loss"]) == 1
    model.train_on_batch(*pair)
    assert model.optimizer.iterations.numpy() == 3


def test_views_are_found_in_what_keras_wraps_around_them():
    for batch in ((1, 2), [1, 2], ((1, 2),), (1, 2, None), ((1, 2), None, None)):
        assert tuple(two_views(batch)) == (1, 2)
    with pytest.raises(ValueError, match=r"Received: 3 parts$"):
        two_views((1, 2, 3))


def test_fit_takes_the_arguments_of_keras_in_their_order():
    own = [*inspect.signature(BYOL.fit).parameters]
    keras_own = [*inspect.signature(keras.Model.fit).parameters]
    named = own[: own.index("args")]
    assert named == keras_own[: len(named)]


# --- Frozen layers --------------------------------------------------------------------


def test_layer_frozen_before_the_first_step_is_the_same_in_both_networks():
    model = compiled(eager=True, target_init="random")
    online, target = (n.backbone.layers[0] for n in (model.online, model.target))
    assert not np.array_equal(online.kernel, target.kernel)
    online.trainable = False
    train(model, batches(8, 4))
    np.testing.assert_array_equal(online.kernel, target.kernel)
    # After the first step, the target keeps its average.
    second = [n.backbone.layers[1] for n in (model.online, model.target)]
    second[0].trainable = False
    before = arrays([second[1].kernel])
    model.optimizer.build(model.trainable_variables)
    model._prepare(None)
    np.testing.assert_array_equal(second[1].kernel, before[0])
