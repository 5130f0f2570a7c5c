import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gin
from byol_keras.optimizers import (
    DEFAULT_EXCLUDE,
    LARS,
    MMSELFSUP_0X_EXCLUDE,
    RunLength,
    WarmupCosine,
    WarmupEpochCosine,
    constant,
    scaled_learning_rate,
    warmup_cosine,
    warmup_epoch_cosine,
)

# After byol_keras, which sets what TensorFlow reads when it is imported.
import keras  # isort: skip

IMAGENET = 1_281_167

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


def _at(schedule, step):
    return np.asarray(schedule(step), "float64")


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


@pytest.mark.parametrize("form", ADAPTED)
def test_two_mirrored_devices_take_the_steps_of_one(form):
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED_SCRIPT, form],
        cwd=Path(__file__).parents[1],
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
        ({"momentum": 1.0}, "`momentum` must be in"),
        ({"weight_decay": -1e-6}, "`weight_decay` must not be negative"),
        ({"trust_coefficient": 0.0}, "`trust_coefficient` must be positive"),
        ({"form": "apex"}, "`form` must be one of .* Received: 'apex'"),
        ({"exclude": "bias"}, "`exclude` must be a sequence .* Received: 'bias'"),
        ({"exclude": ("bias", "(")}, r"`exclude` must be a sequence .* '\('"),
        ({"exclude": (None,)}, "`exclude` must be a sequence .* None"),
    ],
)
def test_lars_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        LARS(0.1, **arguments)


# --- Length of a run ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_length", "total_steps"),
    [
        (RunLength(IMAGENET, 4096, 40), 12_511),
        (RunLength(IMAGENET, 4096, 100), 31_278),
        (RunLength(IMAGENET, 4096, 300), 93_835),
        (RunLength(IMAGENET, 4096, 1000), 312_784),
        (RunLength(IMAGENET, 512, 1000), 2_502_279),
        (RunLength(9469, 256, 1000), 36_988),
        (RunLength(IMAGENET, 4096, 200, 16, "pad"), 62_563),
        (RunLength(IMAGENET, 4096, 300, 16, "pad"), 93_844),
        (RunLength(IMAGENET, 4096, 100, 16, "pad"), 31_282),
        (RunLength(IMAGENET, 4096, 200, 1, "pad"), 62_600),
        (RunLength(IMAGENET, 4096, 100, 2, "pad"), 626 * 100 // 2),
        (RunLength(IMAGENET, 4096, 200, 2, "pad"), 626 * 200 // 2),
        (RunLength(IMAGENET, 4096, 300, 2, "pad"), 626 * 300 // 2),
    ],
)
def test_total_steps_of_the_published_recipes(run_length, total_steps):
    assert run_length.total_steps == total_steps


@pytest.mark.parametrize(
    ("batch_size", "accumulation_steps", "iterations"),
    [(4096, 16, 5005), (4096, 1, 313), (4096, 2, 626)],
)
def test_padded_pass_is_whole_micro_batches(batch_size, accumulation_steps, iterations):
    run_length = RunLength(IMAGENET, batch_size, 1, accumulation_steps, "pad")
    assert run_length.iterations_per_epoch == iterations
    micro_batch = batch_size // accumulation_steps
    assert run_length.pass_length == iterations * micro_batch


def test_carried_pass_has_the_images_of_the_dataset():
    assert RunLength(IMAGENET, 4096, 10).pass_length == IMAGENET


def test_carried_warmup_of_ten_epochs_is_3127_steps():
    assert RunLength(IMAGENET, 4096, 300).step_at_epoch(10) == 3127


def test_padded_step_at_epoch_rounds_up():
    # Ten passes are 50,050 micro-batches: 3128 windows of 16, and 2 more.
    assert RunLength(IMAGENET, 4096, 200, 16, "pad").step_at_epoch(10) == 3129


@pytest.mark.parametrize(
    "run_length",
    [
        RunLength(10, 4, 7),
        RunLength(10, 10, 3),
        RunLength(10, 4, 7, 2, "pad"),
        RunLength(11, 6, 5, 3, "pad"),
        RunLength(7, 6, 5, 6, "pad"),
    ],
)
def test_epoch_of_step_inverts_step_at_epoch(run_length):
    epochs = [run_length.epoch_of_step(s) for s in range(run_length.total_steps)]
    expected = [
        epoch
        for epoch in range(run_length.epochs)
        for _ in range(
            run_length.step_at_epoch(epoch), run_length.step_at_epoch(epoch + 1)
        )
    ]
    assert epochs == expected


def test_numpy_counts_do_not_overflow():
    run_length = RunLength(np.int32(IMAGENET), np.int32(512), np.int32(2000))
    assert run_length.total_steps == 5_004_558


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 1), "`num_examples` must be a positive int. Received: 0"),
        ((10, -4, 1), "`batch_size` must be a positive int. Received: -4"),
        ((10, 4, 1.5), "`epochs` must be a positive int. Received: 1.5"),
        ((10, 4, 1, 0), "`accumulation_steps` must be a positive int. Received: 0"),
        ((10, 4, 1, 1, "drop"), "`last_batch` must be one of .* Received: 'drop'"),
        ((10, 4, 1, 3), r"`batch_size` must be divisible .* \(3\). Received: 4"),
        ((10, 12, 99), r"`batch_size` .* `num_examples` \(10\). Received: 12"),
        ((10, 12, 99, 2, "pad"), r"`batch_size` .* `num_examples` \(10\)"),
    ],
)
def test_run_length_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        RunLength(*arguments)


def test_carried_run_has_no_whole_number_of_iterations_per_epoch():
    with pytest.raises(ValueError, match=r"`last_batch` must be .* 'carry'"):
        _ = RunLength(10, 4, 7).iterations_per_epoch


# --- Learning rates -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_length", "base", "warmup_epochs", "expected"),
    [
        (
            RunLength(IMAGENET, 4096, 300), 0.3, 10,
            {0: 0, 1: 0.0015350175887432, 1000: 1.5350175887432, 3126: 4.79846498241,
             3127: 4.8, 20000: 4.40172807834151, 46917: 2.529939104743,
             93834: 1.43942751e-9},
        ),
        (
            RunLength(IMAGENET, 4096, 1000), 0.2, 10,
            {1: 0.00102334505916, 1000: 1.02334505916214, 100000: 2.48749215749781,
             156392: 1.62537865643},
        ),
        (
            RunLength(IMAGENET, 4096, 100), 0.45, 10,
            {1: 0.00230252638311, 15639: 4.22495759486},
        ),
        (
            RunLength(IMAGENET, 1024, 80), 0.2, 0,
            {0: 0.8, 50045: 0.400006277473, 100090: 1.97033322991e-10},
        ),
    ],
    ids=["300e", "1000e", "100e", "no_warmup"],
)  # fmt: skip
def test_deepmind_learning_rates(run_length, base, warmup_epochs, expected):
    schedule = warmup_cosine(run_length, base, warmup_epochs)
    for step, learning_rate in expected.items():
        np.testing.assert_allclose(
            _at(schedule, step), learning_rate, rtol=1e-6, err_msg=str(step)
        )


MMSELFSUP_RATES = {
    (5005, 200): {
        0: 0.00048, 1: 0.000575894505495, 16: 0.00201431208791, 2502: 0.240408052747,
        5004: 0.480336105495, 5005: 0.480402365148, 25025: 2.39654043056,
        50049: 4.77596136235, 50050: 4.77045201743, 55055: 4.76426238277, 500500: 2.4,
        1000999: 0.000296082044015,
    },
    (5005, 300): {
        0: 0.00048, 5005: 0.480418828804, 50050: 4.78685254888, 500500: 3.6,
        750750: 2.4, 1501499: 0.000131593522771,
    },
    (313, 200): {
        1: 0.00201339297125, 312: 0.478898607029, 313: 0.480402365148,
        3129: 4.77453103438, 3130: 4.77045201743, 31300: 2.4, 62599: 0.000296082044015,
    },
}  # fmt: skip


@pytest.mark.parametrize(("iterations", "epochs"), MMSELFSUP_RATES)
def test_mmselfsup_learning_rates_per_micro_iteration(iterations, epochs):
    schedule = WarmupEpochCosine(4.8, epochs, 10, iterations)
    for iteration, learning_rate in MMSELFSUP_RATES[iterations, epochs].items():
        np.testing.assert_allclose(
            _at(schedule, iteration), learning_rate, rtol=1e-6, err_msg=str(iteration)
        )


@pytest.mark.parametrize("epochs", [200, 300])
def test_update_takes_the_rate_of_its_last_micro_iteration(epochs):
    run_length = RunLength(IMAGENET, 4096, epochs, 16, "pad")
    accumulated = warmup_epoch_cosine(run_length, 0.3)
    per_iteration = WarmupEpochCosine(4.8, epochs, 10, 5005)
    for step in (0, 1, 312, 3127, 3128, 31281):
        expected = _at(per_iteration, 16 * step + 15)
        np.testing.assert_array_equal(_at(accumulated, step), expected)


def test_last_partial_window_keeps_the_rate_of_the_last_epoch():
    schedule = warmup_epoch_cosine(RunLength(IMAGENET, 4096, 200, 16, "pad"), 0.3)
    # Its sixteenth micro-iteration would lie in epoch 200, where the cosine is 0.
    np.testing.assert_allclose(_at(schedule, 62_562), 0.000296082044015, rtol=1e-6)


def test_deepmind_rate_stays_0_after_the_end():
    np.testing.assert_array_equal(_at(WarmupCosine(1.0, 100), [100, 101, 200]), 0.0)


def test_no_warmup_starts_the_staircase_at_its_peak():
    schedule = WarmupEpochCosine(4.8, 100, 0, 313)
    np.testing.assert_allclose(_at(schedule, 0), 4.8, rtol=1e-6)


def test_rate_is_exact_after_millions_of_steps():
    # The last step of the paper's longest run (batch size 512, 1000 epochs).
    total_steps = 2_502_279
    expected = 0.8 * np.sin(0.5 * np.pi / total_steps) ** 2
    schedule = WarmupCosine(0.8, total_steps)
    np.testing.assert_allclose(_at(schedule, total_steps - 1), expected, rtol=1e-6)


def test_constant_rate_is_not_scaled():
    assert constant(RunLength(IMAGENET, 4096, 1), 0.03) == 0.03


@pytest.mark.parametrize(
    ("base", "batch_size", "expected"), [(0.3, 4096, 4.8), (2.0, 256, 2.0)]
)
def test_base_learning_rate_is_per_256_images(base, batch_size, expected):
    assert scaled_learning_rate(base, batch_size) == pytest.approx(expected)


@pytest.mark.parametrize(
    "schedule",
    [
        WarmupCosine(4.8, total_steps=93835, warmup_steps=3127),
        WarmupEpochCosine(4.8, 200, 10, 5005, accumulation_steps=16),
    ],
    ids=["WarmupCosine", "WarmupEpochCosine"],
)
def test_schedule_survives_serialisation(schedule):
    config = keras.optimizers.schedules.serialize(schedule)
    restored = keras.optimizers.schedules.deserialize(config)
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()


@pytest.mark.parametrize("builder", [warmup_cosine, warmup_epoch_cosine])
def test_builders_reject_a_warmup_as_long_as_the_run(builder):
    run_length = RunLength(1000, 100, 10, last_batch="pad")
    message = r"`warmup_epochs` must be smaller than `epochs` \(10\). Received: 10"
    with pytest.raises(ValueError, match=message):
        builder(run_length, 0.3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WarmupCosine(1.0, 0), "`total_steps` must be a positive int"),
        (lambda: WarmupCosine(1.0, 9, -1), "`warmup_steps` must be an int of at least"),
        (lambda: WarmupCosine(1.0, 9, 9), "`warmup_steps` must be smaller than"),
        (lambda: WarmupEpochCosine(1.0, 0, 0, 5), "`epochs` must be a positive int"),
        (lambda: WarmupEpochCosine(1.0, 9, 0, 0), "`iterations_per_epoch` must be"),
        (lambda: WarmupEpochCosine(1.0, 9, 0, 5, 0), "`accumulation_steps` must be"),
    ],
)
def test_schedules_name_the_wrong_argument(build, message):
    with pytest.raises(ValueError, match=message):
        build()
