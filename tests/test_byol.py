import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from byol_keras.byol import BYOL
from byol_keras.monitoring.nonfinite import NonfiniteGuard
from byol_keras.networks import mlp_head
from byol_keras.optimizers import LARS

from support.small_byol import (
    LEARNING_RATE,
    TAU,
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


def assert_same_variables(model, expected, atol):
    for v, w in zip(all_variables(model), all_variables(expected), strict=True):
        np.testing.assert_allclose(
            *arrays([v, w]), rtol=0.0, atol=atol, err_msg=f"{v.path}"
        )


# --- One step against NumPy in float64 ------------------------------------------------


def numpy_byol_loss(p1, p2, z1, z2):
    def direction(p, z):
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        return np.mean(np.sum((p - z) ** 2, axis=1))

    return direction(p1, z2) + direction(p2, z1)


def numpy_dense_projection(weights, x):
    kernel1, bias1, kernel2, bias2, kernel3, bias3 = weights
    h = np.tanh(x @ kernel1 + bias1) @ kernel2 + bias2
    return h @ kernel3 + bias3


def numpy_dense_loss(online, target, predictor, view1, view2):
    z1, z2 = (numpy_dense_projection(target, view) for view in (view1, view2))
    p1, p2 = (
        numpy_dense_projection(online, view) @ predictor[0] + predictor[1]
        for view in (view1, view2)
    )
    return numpy_byol_loss(p1, p2, z1, z2)


def central_differences(function, weights, step=1e-6):
    """Gradient of `function()` with respect to arrays that it reads."""
    gradients = [np.zeros_like(w) for w in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        for index in np.ndindex(weight.shape):
            value = weight[index]
            weight[index] = value + step
            above = function()
            weight[index] = value - step
            gradient[index] = (above - function()) / (2.0 * step)
            weight[index] = value
    return gradients


def test_one_step_equals_numpy_loss_gradient_step_and_moving_average():
    pair = views(8)
    model = dense_byol()
    parts = (model.online, model.target, model.predictor)
    online, target, predictor = (
        [w.astype("float64") for w in part.get_weights()] for part in parts
    )

    def loss():
        return numpy_dense_loss(online, target, predictor, *pair.astype("float64"))

    expected_loss = loss()
    gradients = central_differences(loss, online + predictor)
    for weight, gradient in zip(online + predictor, gradients, strict=True):
        weight -= LEARNING_RATE * gradient
    for moved, weight in zip(target, online, strict=True):
        moved[:] = TAU * moved + (1.0 - TAU) * weight

    (logs,) = fit(model, pair, 8, lambda: keras.optimizers.SGD(LEARNING_RATE))
    np.testing.assert_allclose(logs["loss"], expected_loss, atol=1e-5)
    assert logs["tau"] == TAU
    assert logs["learning_rate"] == LEARNING_RATE
    for part, expected in zip(parts, (online, target, predictor), strict=True):
        for weight, value in zip(part.get_weights(), expected, strict=True):
            np.testing.assert_allclose(weight, value, rtol=0.0, atol=1e-5)


def numpy_mlp(weights, x):
    """The default head; returns its output and the mean of its hidden layer."""
    kernel1, bias, gamma, beta, kernel2 = weights
    hidden = x @ kernel1 + bias
    mean, variance = hidden.mean(axis=0), hidden.var(axis=0)
    normal = (hidden - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    return np.maximum(normal, 0.0) @ kernel2, mean


def trainable_arrays(model):
    return [w.astype("float64") for w in arrays(model.trainable_variables)]


@pytest.fixture(scope="module")
def normalised():
    """One step of BYOL with default heads: model, logs and what NumPy expects."""
    keras.utils.set_random_seed(0)
    linear = keras.Sequential([keras.Input((5,)), layers.Dense(4, use_bias=False)])
    model = BYOL(linear, hidden_units=16, output_units=3, target_init="random")
    pair = views(16, seed=1).astype("float64")
    z, means = {}, {}
    for network in (model.online, model.target):
        kernel = network.backbone.get_weights()[0].astype("float64")
        head = trainable_arrays(network.projector)
        outputs = [numpy_mlp(head, view @ kernel) for view in pair]
        z[network.name] = [output for output, _ in outputs]
        means[network.name] = [mean for _, mean in outputs]
    predictor = trainable_arrays(model.predictor)
    p1, p2 = (numpy_mlp(predictor, view)[0] for view in z["online"])
    loss = numpy_byol_loss(p1, p2, *z["target"])
    (logs,) = fit(model, pair.astype("float32"), 16, eager=True)
    return model, logs, loss, means


def test_loss_with_default_heads_normalises_each_view_and_network_by_itself(normalised):
    _, logs, loss, _ = normalised
    np.testing.assert_allclose(logs["loss"], loss, atol=1e-5)


@pytest.mark.parametrize("network", ["online", "target"])
def test_each_network_keeps_moving_statistics_of_its_own_two_passes(
    normalised, network
):
    # Had the target's been moved towards the online's, a tenth of the gap would show.
    model, _, _, means = normalised
    mean1, mean2 = means[network]
    moving_mean = getattr(model, network).projector.get_layer("bn").moving_mean
    np.testing.assert_allclose(
        moving_mean, 0.9 * 0.1 * mean1 + 0.1 * mean2, rtol=0.0, atol=1e-6
    )
    assert np.abs(means["online"][0] - means["target"][0]).max() > 0.1


# --- Target ---------------------------------------------------------------------------


def test_update_target_of_the_golden_weights():
    weights = keras.Sequential([keras.Input((1,)), layers.Dense(2, use_bias=False)])
    model = BYOL(weights, 2, 2)
    target, online = (n.backbone.layers[0].kernel for n in (model.target, model.online))
    target.assign([[1.0, 2.0]])
    online.assign([[2.0, 0.0]])
    model.update_target(0.99)
    np.testing.assert_allclose(target, [[1.01, 1.98]], rtol=1e-6)
    np.testing.assert_array_equal(online, [[2.0, 0.0]])


def test_update_target_moves_all_trainable_weights_and_no_moving_statistics():
    model = BYOL(dense_backbone(), 8, 3, target_init="random")
    for variable in model.online.variables:
        variable.assign(keras.ops.ones(variable.shape) * 7.0)
    statistics = arrays(model.target.non_trainable_variables)
    model.update_target(0.0)
    for variable in model.target.trainable_variables:
        np.testing.assert_allclose(variable, 7.0, rtol=1e-6, err_msg=variable.path)
    assert len(statistics) == 2
    for variable, before in zip(
        model.target.non_trainable_variables, statistics, strict=True
    ):
        np.testing.assert_array_equal(variable, before)


def test_update_target_outside_its_strategy_moves_every_replica():
    with two_replicas().scope():
        model = dense_byol()
    model.update_target(0.0)
    for target, online in zip(
        model.target.variables, model.online.variables, strict=True
    ):
        for replica in target.value.values:
            np.testing.assert_allclose(replica, online.value.values[0], atol=1e-6)


def test_update_target_leaves_a_layer_that_is_frozen_online():
    model = dense_byol()
    model.online.backbone.layers[0].trainable = False
    frozen, moved = (layer.kernel for layer in model.target.backbone.layers)
    before = arrays([frozen, moved])
    model.update_target(0.0)
    np.testing.assert_array_equal(frozen, before[0])
    assert np.abs(keras.ops.convert_to_numpy(moved) - before[1]).max() > 0.1


@pytest.mark.parametrize("target_init", ["copy", "random"])
def test_target_starts_as_copy_or_as_its_own_draw(target_init):
    model = BYOL(dense_backbone(), 8, 3, target_init=target_init)
    kernels = [
        arrays(v for v in network.variables if v.name == "kernel")
        for network in (model.online, model.target)
    ]
    for online, target in zip(*kernels, strict=True):
        assert np.array_equal(online, target) == (target_init == "copy")


def test_optimizer_has_state_for_online_and_predictor_and_none_for_the_target():
    model = BYOL(dense_backbone(), 8, 3)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    moved = model.online.trainable_variables + model.predictor.trainable_variables
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in moved]
    assert [v.shape for v in model.optimizer.momentums] == [v.shape for v in moved]
    targets = {id(v) for v in model.target.variables}
    assert not targets & {id(v) for v in model.trainable_variables}


def test_training_moves_the_target_by_nothing_but_the_moving_average():
    model = dense_byol()
    online, target = arrays(model.online.variables), arrays(model.target.variables)
    fit(model, views(8), 8, tau=1.0, eager=True)
    for variable, before in zip(model.target.variables, target, strict=True):
        np.testing.assert_array_equal(variable, before)
    assert np.abs(arrays(model.online.variables)[0] - online[0]).max() > 1e-3


# --- Devices and accumulation ---------------------------------------------------------


def conv_backbone():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(momentum=0.9, synchronized=True),
            layers.ReLU(),
            layers.Conv2D(8, 3),
            layers.GlobalAveragePooling2D(),
        ]
    )


def test_one_and_two_devices_agree_after_8_steps():
    # Pure noise would give every image the same features, up to rounding, and
    # BatchNormalization would make the rounding large.
    rng = np.random.default_rng(0)
    colours = rng.random((8 * 16, 1, 1, 3))
    pair = [
        (colours * rng.random((8 * 16, 8, 8, 3))).astype("float32") for _ in range(2)
    ]

    def optimizer_fn():
        return keras.optimizers.SGD(0.1, momentum=0.9)

    models, logs = [], []
    for strategy in (tf.distribute.get_strategy(), two_replicas()):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            models.append(BYOL(conv_backbone(), 32, 16))
        start = arrays(all_variables(models[-1]))
        logs.append(fit(models[-1], pair, 16, optimizer_fn))
    assert_same_variables(*models, atol=1e-5)
    for name in ("loss", "tau"):
        one, two = ([step[name] for step in steps] for steps in logs)
        assert len(one) == 8
        np.testing.assert_allclose(one, two, rtol=0.0, atol=1e-5)
    kernels = [i for i, v in enumerate(all_variables(models[1])) if v.name == "kernel"]
    end = arrays(all_variables(models[1]))
    assert min(np.abs(end[i] - start[i]).max() for i in kernels) > 1e-3


@pytest.fixture(scope="module")
def whole_batches():
    keras.utils.set_random_seed(3)
    model = dense_byol()
    return model, fit(model, views(32), 16)


@pytest.mark.parametrize(
    ("strategy_fn", "accumulation_steps"),
    [(tf.distribute.get_strategy, 4), (two_replicas, 2)],
    ids=["one_device", "two_devices"],
)
def test_accumulated_micro_batches_equal_one_step_on_the_whole_batch(
    whole_batches, strategy_fn, accumulation_steps
):
    expected, expected_logs = whole_batches
    with strategy_fn().scope():
        keras.utils.set_random_seed(3)
        model = dense_byol(accumulation_steps=accumulation_steps)
    logs = fit(model, views(32), 16)
    assert_same_variables(model, expected, atol=1e-5)
    for step, expected_step in zip(logs, expected_logs, strict=True):
        np.testing.assert_allclose(step["loss"], expected_step["loss"], atol=1e-5)
    assert model.optimizer.iterations.numpy() == 2


def test_batch_that_accumulation_does_not_divide_is_refused():
    model = dense_byol(accumulation_steps=3)
    model.compile("sgd", jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(views(8))).batch(
        8, drop_remainder=True
    )
    with pytest.raises(ValueError, match=r"accumulation_steps=3\. Received: 8"):
        model.fit(dataset, shuffle=False, verbose=0)


# --- Mixed precision ------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_float32_weights_at_a_finite_loss(policy):
    keras.config.set_dtype_policy(policy)
    model = BYOL(dense_backbone(), 8, 3)
    before = arrays(model.trainable_variables)
    logs = fit(model, views(24), 8, eager=policy == "mixed_bfloat16")
    iterations = model.optimizer.iterations.numpy()
    if policy == "mixed_float16":
        # The first loss scales may be too large; each skipped step halves the scale.
        skipped = 3 - iterations
        assert skipped < 3
        assert model.optimizer.dynamic_scale.numpy() == 2.0 ** (15 - skipped)
    else:
        assert iterations == 3
    assert all(0.0 < step["loss"] < 8.0 for step in logs)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    after = arrays(model.trainable_variables)
    assert np.abs(after[0] - before[0]).max() > 1e-3


# --- Backbones and optimizers of a user -----------------------------------------------


def test_functional_backbone_with_an_avgpool_output_trains_with_adam():
    images = keras.Input((5,))
    h = layers.Dense(4)(images)
    backbone = keras.Model(images, {"feature1": images, "avgpool": h})
    model = BYOL(backbone, 8, 3)
    before = arrays(model.online.trainable_variables)
    fit(model, views(16), 8, lambda: keras.optimizers.Adam(1e-2), eager=True)
    assert model.optimizer.iterations.numpy() == 2
    after = arrays(model.online.trainable_variables)
    # Adam's first steps have about the length of its learning rate.
    assert 1e-2 < np.abs(after[0] - before[0]).max() < 3e-2


@keras.saving.register_keras_serializable(package="tests")
class Positions(layers.Layer):
    """Adds an embedding of its place to each number, as a ViT to its patches."""

    def build(self, shape):
        self.embedding = layers.Embedding(shape[-1], 1)
        self.embedding.build(())

    def call(self, x):
        places = ops.arange(self.embedding.input_dim)
        return x + ops.transpose(self.embedding(places))


@pytest.mark.parametrize(
    ("policy", "accumulation_steps", "build"),
    [("float32", 2, LARS), ("mixed_float16", 2, keras.optimizers.AdamW)],
    ids=["accumulated_lars", "loss_scaling_adamw"],
)
def test_backbone_with_an_embedding_trains_on_two_replicas(
    policy, accumulation_steps, build
):
    keras.config.set_dtype_policy(policy)
    with two_replicas().scope():
        backbone = keras.Sequential([keras.Input((5,)), Positions(), layers.Dense(4)])
        model = BYOL(backbone, 8, 3, accumulation_steps=accumulation_steps)
    NonfiniteGuard().set_model(model)
    (embedding,) = backbone.layers[0].trainable_variables
    before = embedding.numpy()
    logs = fit(model, views(48), 16, lambda: build(0.1))
    assert all(0.0 < step["loss"] < 8.0 for step in logs)
    assert (embedding.numpy() != before).all()


def test_predictor_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"^predictor.*\(None, 3\)\. .*\(None, 2\)"):
        BYOL(dense_backbone(), 8, 3, predictor=mlp_head(8, 2))


@pytest.mark.parametrize(
    "arguments",
    [
        {"hidden_units": 0},
        {"output_units": 2.5},
        {"accumulation_steps": 0},
        {"accumulation_steps": True},
        {"target_init": "zeros"},
        {"head_initializer": "he_normal"},
    ],
    ids=str,
)
def test_bad_argument_is_named_with_its_value(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"^{name} must be .* Received: {value!r}$"):
        BYOL(dense_backbone(), **arguments)


def test_sizes_may_be_integers_of_numpy():
    model = BYOL(dense_backbone(), np.int64(8), np.int32(3), np.int64(2))
    config = model.get_config()
    names = ("hidden_units", "output_units", "accumulation_steps")
    assert [type(config[name]) for name in names] == [int] * 3
    assert model(views(4)[0]).shape == (4, 3)


# --- Logs, heads, serialisation -------------------------------------------------------


def identity():
    return keras.Sequential([layers.Activation("linear")])


def test_projection_std_is_1_where_projections_spread_over_the_sphere():
    model = BYOL(
        keras.Sequential([keras.Input((16,)), layers.Activation("linear")]),
        projector=identity(),
        predictor=mlp_head(8, 16),
    )
    (logs,) = fit(model, views(2048, size=16), 2048, eager=True)
    np.testing.assert_allclose(logs["projection_std"], 1.0, atol=0.01)


def test_projection_std_is_0_where_the_backbone_has_collapsed():
    constant = layers.Dense(4, kernel_initializer="zeros", bias_initializer="ones")
    model = BYOL(
        keras.Sequential([keras.Input((5,)), constant]),
        projector=identity(),
        predictor=mlp_head(8, 4),
    )
    (logs,) = fit(model, views(16), 16, eager=True)
    np.testing.assert_allclose(logs["projection_std"], 0.0, atol=1e-6)


def test_model_survives_a_keras_file_with_weights_target_and_optimizer(
    normalised, tmp_path
):
    model = normalised[0]
    model.save(tmp_path / "byol.keras")
    restored = keras.models.load_model(tmp_path / "byol.keras")
    for name in ("accumulation_steps", "target_init", "hidden_units", "output_units"):
        assert getattr(restored, name) == getattr(model, name)
    for attribute in ("variables", "trainable_variables"):
        pairs = zip(
            getattr(restored, attribute), getattr(model, attribute), strict=True
        )
        for variable, expected in pairs:
            np.testing.assert_array_equal(*arrays([variable, expected]))
    for variable, expected in zip(
        restored.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(*arrays([variable, expected]))
    view = views(4)[0]
    np.testing.assert_allclose(restored(view), model(view), rtol=1e-6)


# --- Several machines -----------------------------------------------------------------

WORKER = """
import byol_keras
import sys
import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model = byol_keras.BYOL(backbone, 8, 3)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=False)
views = np.random.default_rng(0).normal(size=(2, 24, 5)).astype("float32")
dataset = tf.data.Dataset.from_tensor_slices(tuple(views)).batch(8)
ema = byol_keras.TargetEMA(0.9, total_steps=3)
history = model.fit(dataset, shuffle=False, verbose=0, callbacks=[ema]).history
assert 0.0 < history["loss"][0] < 8.0
variables = model.online.variables + model.target.variables
np.savez(sys.argv[1], *[keras.ops.convert_to_numpy(v) for v in variables])
"""


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


@pytest.mark.slow
def test_two_worker_processes_train_to_the_same_weights(tmp_path):
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(2)]}
    workers = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, "-c", WORKER, tmp_path / f"{index}.npz"]
        workers.append(subprocess.Popen(command, env=environment))
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    first, second = (np.load(tmp_path / f"{index}.npz") for index in range(2))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name])
    assert np.abs(first["arr_0"]).max() > 0.0
