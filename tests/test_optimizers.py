import os
import subprocess
import sys

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.optimizers import (
    DEFAULT_EXCLUDE,
    LARS,
    MMSELFSUP_0X_EXCLUDE,
    MomentumSGD,
)
from byol_keras.schedules import WarmupCosine

from support import ROOT

# Weights and momenta after step 1 (rate 0.5) and step 2 (rate 0.25), float64.
GRADIENTS = ([0.6, 0, 0, 0.8], [0, 1.0, 2, 0])
ADAPTED = {
    "deepmind": (
        ([2.99845447047, 3.99990187114, 0, -0.00196257718217],
         [0.00309105906191, 0.000196257718217, 0, 0.00392515436433]),
        ([2.99774236025, 3.99928118961, -0.00110870016984, -0.00284572603459],
         [0.00284844089533, 0.00248272612375, 0.00443480067936, 0.0035325954097]),
    ),
    "mmselfsup": (
        ([2.99850000001, 3.99990476191, 0, -0.00190476188662],
         [0.00149999998571, 9.52380943311e-05, 0, 0.00190476188662]),
        ([2.99713360765, 3.99925049468, -0.0010933720402, -0.00361903717151],
         [0.00136639236746, 0.000654267225148, 0.0010933720402, 0.00171427528489]),
    ),
}  # fmt: skip
EXCLUDED = {
    "deepmind": ([0.75, -1.125], [0.7625, -1.43125]),
    "mmselfsup": ([0.75, -1.125], [0.65, -1.4875]),
}


def _lars(form="deepmind", learning_rate=0.5, weight_decay=0.01, **kwargs):
    return LARS(learning_rate, weight_decay=weight_decay, form=form, **kwargs)


def _step(optimizer, variable, gradient):
    optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])


# --- LARS -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ADAPTED)
def test_two_steps_of_an_adapted_variable(form):
    weights = keras.Variable([3.0, 4.0, 0.0, 0.0], name="kernel")
    optimizer = _lars(form)
    for rate, gradient, expected in zip(
        (0.5, 0.25), GRADIENTS, ADAPTED[form], strict=True
    ):
        optimizer.learning_rate = rate
        _step(optimizer, weights, gradient)
        np.testing.assert_allclose(weights, expected[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(optimizer.momentums[0], expected[1], rtol=1e-6)


@pytest.mark.parametrize("form", EXCLUDED)
def test_two_steps_of_an_excluded_variable(form):
    bias = keras.Variable([1.0, -1.0], name="bias")
    optimizer = _lars(form)
    for rate, gradient, expected in zip(
        (0.5, 0.25), ([0.5, 0.25], [-0.5, 1.0]), EXCLUDED[form], strict=True
    ):
        optimizer.learning_rate = rate
        _step(optimizer, bias, gradient)
        np.testing.assert_allclose(bias, expected, rtol=1e-6)


@pytest.mark.parametrize("form", ADAPTED)
def test_zero_weights_take_a_plain_step(form):
    weights = keras.Variable([0.0, 0.0], name="kernel")
    _step(_lars(form), weights, [0.5, -2.0])
    np.testing.assert_allclose(weights, [-0.25, 1.0], rtol=1e-6)


@pytest.mark.parametrize("form", ADAPTED)
def test_zero_gradient_without_decay_leaves_the_weights(form):
    weights = keras.Variable([3.0, 4.0], name="kernel")
    _step(_lars(form, weight_decay=0.0), weights, [0.0, 0.0])
    np.testing.assert_array_equal(weights, [3.0, 4.0])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # u = d w has a norm of its own: ratio c / d, step lr c w.
        ("deepmind", [2.9985, 3.998]),
        # The norm that counts is the gradient's: ratio 1, step lr d w.
        ("mmselfsup", [2.985, 3.98]),
    ],
)
def test_zero_gradient_with_decay_shrinks_the_weights_by_the_rule_of_the_form(
    form, expected
):
    weights = keras.Variable([3.0, 4.0], name="kernel")
    _step(_lars(form), weights, [0.0, 0.0])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "expected"), [("deepmind", 2.9975), ("mmselfsup", 2.99875)]
)
def test_gradient_norm_of_1e_8_is_doubled_by_the_epsilon_of_mmselfsup(form, expected):
    weights = keras.Variable([3.0, 4.0], name="kernel")
    _step(_lars(form, weight_decay=0.0), weights, [1e-8, 0.0])
    np.testing.assert_allclose(weights, [expected, 4.0], rtol=1e-6)


def test_norms_of_float16_weights_do_not_overflow():
    # |w| = 500 and |g| = 1: one step of 0.5 * 1e-3 * 500 along the gradient. The
    # square of 300 is no float16.
    weights = keras.Variable([300.0, 400.0], name="kernel", dtype="float16")
    optimizer = _lars(weight_decay=0.0)
    optimizer.apply([keras.ops.array([1.0, 0.0], "float16")], [weights])
    np.testing.assert_array_equal(weights, [299.75, 400.0])


def test_learning_rate_may_be_a_schedule_of_the_step():
    optimizer = _lars(learning_rate=WarmupCosine(1.0, total_steps=4, warmup_steps=2))
    bias = keras.Variable([1.0], name="bias")
    values = []
    for _ in range(3):
        _step(optimizer, bias, [1.0])
        values.append(float(bias.numpy()[0]))
    # Momentum 1, 1.9, 2.71; rates 0, 1/2, 1.
    np.testing.assert_allclose(values, [1.0, 0.05, -2.66], rtol=1e-5)


# --- What LARS leaves out -------------------------------------------------------------


@pytest.fixture
def small_model():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="stage1_block1_bn1")(x)
    shortcut = keras.layers.Conv2D(2, 1, use_bias=False, name="shortcut_conv")(inputs)
    name = "stage1_block1_shortcut_bn"
    shortcut = keras.layers.BatchNormalization(name=name)(shortcut)
    outputs = keras.layers.Flatten()(x + shortcut)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(outputs))


def _adapted_paths(model, exclude):
    optimizer = LARS(0.1, exclude=exclude)
    return {v.path for v in model.trainable_variables if not optimizer.is_excluded(v)}


KERNELS = {"conv/kernel", "shortcut_conv/kernel", "head/kernel"}


def test_default_adapts_kernels_only(small_model):
    assert _adapted_paths(small_model, DEFAULT_EXCLUDE) == KERNELS


def test_mmselfsup_0x_also_adapts_the_gammas_of_shortcuts(small_model):
    shortcut_gamma = {"stage1_block1_shortcut_bn/gamma"}
    adapted = _adapted_paths(small_model, MMSELFSUP_0X_EXCLUDE)
    assert adapted == KERNELS | shortcut_gamma


@pytest.mark.parametrize("exclude", [DEFAULT_EXCLUDE, MMSELFSUP_0X_EXCLUDE])
@pytest.mark.parametrize("name", ["bias", "gamma", "beta"])
def test_excluded_name_without_a_layer_is_excluded(exclude, name):
    assert LARS(0.1, exclude=exclude).is_excluded(keras.Variable([1.0], name=name))


def test_exclusion_compares_the_whole_last_component():
    variable = keras.Variable([1.0], name="unbias")
    assert not LARS(0.1).is_excluded(variable)


def test_every_variable_has_a_momentum(small_model):
    optimizer = LARS(0.1)
    optimizer.build(small_model.trainable_variables)
    shapes = [tuple(momentum.shape) for momentum in optimizer.momentums]
    assert shapes == [tuple(v.shape) for v in small_model.trainable_variables]


def test_building_twice_adds_no_variables(small_model):
    optimizer = LARS(0.1)
    optimizer.build(small_model.trainable_variables)
    before = len(optimizer.variables)
    optimizer.build(small_model.trainable_variables)
    assert len(optimizer.variables) == before


# --- LARS in Keras --------------------------------------------------------------------


def test_lars_survives_serialisation_with_its_schedule():
    optimizer = LARS(
        WarmupCosine(4.8, total_steps=93835, warmup_steps=3127),
        momentum=0.8,
        weight_decay=1e-6,
        trust_coefficient=0.002,
        form="mmselfsup",
        exclude=MMSELFSUP_0X_EXCLUDE,
        name="lars_of_a_recipe",
    )
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(restored) is LARS
    assert restored.get_config() == optimizer.get_config()
    assert restored.exclude == MMSELFSUP_0X_EXCLUDE
    assert restored.get_config()["weight_decay"] == 1e-6
    assert float(restored.learning_rate) == 0.0


def test_gin_builds_a_lars_with_the_mmselfsup_exclusion():
    try:
        gin.parse_config("""
            LARS.learning_rate = 0.5
            LARS.form = "mmselfsup"
            LARS.exclude = %MMSELFSUP_0X_EXCLUDE
        """)
        optimizer = gin.get_configurable("LARS")()
    finally:
        gin.clear_config()
    assert (optimizer.form, optimizer.exclude) == ("mmselfsup", MMSELFSUP_0X_EXCLUDE)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(restored) is LARS


def test_loss_scale_optimizer_skips_a_step_that_is_not_finite():
    layer = keras.layers.Dense(1, name="head", dtype="mixed_float16")
    layer.build((None, 2))
    before = [variable.numpy() for variable in layer.trainable_variables]
    inner = _lars()
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=512.0)

    def apply(kernel_gradient):
        gradients = [keras.ops.array(kernel_gradient), keras.ops.array([512.0])]
        optimizer.apply(gradients, layer.trainable_variables)

    apply([[np.inf], [1.0]])
    for variable, value in zip(layer.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert int(inner.iterations) == 0
    assert not np.any(inner.momentums[1])
    assert float(optimizer.dynamic_scale) == 256.0

    apply([[1.0], [1.0]])
    # The bias is excluded: 0 - 0.5 * 512 / 256.
    np.testing.assert_allclose(layer.bias, [-1.0])
    assert np.all(layer.kernel.numpy() != before[0])


MIRRORED_SCRIPT = """
import sys
from byol_keras.optimizers import LARS
import keras, numpy as np, tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    kernel = keras.Variable([3.0, 4.0, 0.0, 0.0], name="kernel")
    bias = keras.Variable([1.0, -1.0], name="bias")
    optimizer = LARS(keras.optimizers.schedules.PiecewiseConstantDecay(
        [0], [0.5, 0.25]), weight_decay=0.01, form=sys.argv[1])
    optimizer.build([kernel, bias])

@tf.function
def step(kernel_gradient, bias_gradient):
    def replica():
        # A quarter comes from one replica and the rest from the other.
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.where(index == 0, 0.25, 0.75)
        optimizer.apply([share * kernel_gradient, share * bias_gradient],
                        [kernel, bias])
    strategy.run(replica)

step(tf.constant([0.6, 0, 0, 0.8]), tf.constant([0.5, 0.25]))
step(tf.constant([0, 1.0, 2, 0]), tf.constant([-0.5, 1.0]))
for variable in (kernel, bias):
    for copy in strategy.experimental_local_results(variable.value):
        print(*copy.numpy().tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ADAPTED)
def test_two_mirrored_devices_take_the_steps_of_one(form):
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED_SCRIPT, form],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    rows = [list(map(float, line.split())) for line in result.stdout.splitlines()]
    kernel, bias = ADAPTED[form][1][0], EXCLUDED[form][1]
    for row, expected in zip(rows, (kernel, kernel, bias, bias), strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, "momentum must be in"),
        ({"weight_decay": -1e-6}, "weight_decay must not be negative"),
        ({"trust_coefficient": 0.0}, "trust_coefficient must be positive"),
        ({"form": "apex"}, "form must be one of .* Received: 'apex'"),
        ({"exclude": "bias"}, "exclude must be a sequence .* Received: 'bias'"),
        ({"exclude": ("bias", "(")}, r"exclude must be a sequence .* '\('"),
        ({"exclude": (None,)}, "exclude must be a sequence .* None"),
    ],
)
def test_lars_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        LARS(0.1, **arguments)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """0.5, 0.25, 0.125, ..."""

    def __call__(self, step):
        return 0.5 ** (keras.ops.cast(step, "float32") + 1.0)


def weights_after(gradients, start=(1.0, -2.0), **settings):
    variable = keras.Variable(np.array(start, np.float32))
    optimizer = MomentumSGD(Halving(), momentum=0.5, **settings)
    for gradient in gradients:
        gradient = keras.ops.convert_to_tensor(np.array(gradient, np.float32))
        optimizer.apply([gradient], [variable])
    return variable.numpy()


def test_learning_rate_is_outside_of_the_momentum():
    # v = 1, 3.5; w = 1 - 0.5 * 1 - 0.25 * 3.5
    found = weights_after([[1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(found, [-0.375, -2.0])


def test_weight_decay_goes_through_the_momentum():
    # u = 0.1 * w. First w: u = v = 0.1, w = 0.95; then u = 0.095, v = 0.145.
    found = weights_after([[0.0, 0.0]] * 2, weight_decay=0.1)
    np.testing.assert_allclose(found, [0.91375, -1.8275], rtol=1e-6)


def test_nesterov_step_looks_one_momentum_ahead():
    # v = 1, 3.5; steps 1 + 0.5 * 1 and 3 + 0.5 * 3.5.
    found = weights_after([[1.0, 0.0], [3.0, 0.0]], nesterov=True)
    np.testing.assert_allclose(found, [1 - 0.5 * 1.5 - 0.25 * 4.75, -2.0])


def test_steps_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 2)).astype(np.float32)
    weights = torch.tensor([1.0, -2.0], requires_grad=True)
    theirs = torch.optim.SGD(
        [weights], lr=1.0, momentum=0.5, nesterov=True, weight_decay=0.01
    )
    for step, gradient in enumerate(gradients):
        theirs.param_groups[0]["lr"] = 0.5 ** (step + 1)
        weights.grad = torch.tensor(gradient)
        theirs.step()
    found = weights_after(gradients, nesterov=True, weight_decay=0.01)
    np.testing.assert_allclose(found, weights.detach().numpy(), rtol=1e-6)


def test_configuration_restores_the_optimizer():
    optimizer = MomentumSGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.02)
    config = optimizer.get_config()
    restored = MomentumSGD.from_config(config).get_config()
    assert restored == config
    assert (config["momentum"], config["nesterov"]) == (0.8, True)
    assert config["weight_decay"] == 0.02


@pytest.mark.parametrize(
    ("name", "value"), [("momentum", 1.0), ("momentum", -0.1), ("weight_decay", -1.0)]
)
def test_argument_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must .*Received: "):
        MomentumSGD(0.1, **{name: value})


# --- Both -----------------------------------------------------------------------------


@pytest.mark.parametrize("build", [LARS, MomentumSGD])
def test_gradient_of_an_embedding_steps_as_the_same_dense_one(build):
    # Row 1 twice, row 0 never.
    sparse = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        tf.constant([1, 2, 1]),
        dense_shape=tf.constant([3, 2]),
    )
    found = []
    for gradient in (sparse, tf.constant([[0.0, 0.0], [6.0, 8.0], [3.0, 4.0]])):
        variable = keras.Variable(np.ones((3, 2), np.float32))
        optimizer = build(0.5, weight_decay=0.1)
        optimizer.apply([gradient], [variable])
        optimizer.apply([gradient], [variable])
        found.append(variable.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert (found[0][1] != 1.0).all()
