"""Backbones against published numbers and results computed by hand."""

import math

import gin
import keras
import numpy as np
import pytest

from byol_keras import backbones
from byol_keras.backbones import resnet18, resnet50

# Trainable parameters without a classifier. Source: torchvision's models; for
# ResNet-50 also DeepMind's encoder.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
}

TINY = {"width": 0.125, "stem": "small"}


@pytest.fixture
def float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


def shapes(backbone, size, channels=3):
    spec = keras.KerasTensor((2, size, size, channels))
    outputs = backbone.compute_output_spec(spec)
    return {name: tuple(output.shape) for name, output in outputs.items()}


def outputs_of(backbone, *names):
    """A model of the backbone that returns the outputs of the layers `names`."""
    tensors = [backbone.get_layer(name).output for name in names]
    return keras.Model(backbone.input, tensors)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_torchvisions(name):
    with keras.StatelessScope():  # counts without drawing the weights
        backbone = getattr(backbones, name)()
    count = sum(math.prod(v.shape) for v in backbone.trainable_variables)
    assert count == PARAMETERS[name]


def test_resnet200_has_66_bottlenecks():
    with keras.StatelessScope():
        backbone = backbones.resnet200(width=1 / 64)
    adds = [layer for layer in backbone.layers if layer.name.endswith("_add")]
    assert len(adds) == 3 + 24 + 36 + 3


def test_resnet50_features_at_224_have_strides_2_to_32():
    with keras.StatelessScope():
        backbone = resnet50()
    assert shapes(backbone, 224) == {
        "feature1": (2, 112, 112, 64),
        "feature2": (2, 56, 56, 256),
        "feature3": (2, 28, 28, 512),
        "feature4": (2, 14, 14, 1024),
        "feature5": (2, 7, 7, 2048),
        "avgpool": (2, 2048),
    }


@pytest.mark.parametrize(
    ("stem", "sizes"),
    [("cifar", (32, 32, 16, 8, 4)), ("small", (16, 16, 8, 4, 2))],
)
def test_stem_for_small_images_sets_the_feature_sizes_at_32_pixels(stem, sizes):
    with keras.StatelessScope():
        found = shapes(resnet18(width=0.25, stem=stem), 32)
    channels = (16, 16, 32, 64, 128)
    expected = {
        f"feature{i}": (2, size, size, c)
        for i, (size, c) in enumerate(zip(sizes, channels, strict=True), start=1)
    }
    assert found == {**expected, "avgpool": (2, 128)}


@pytest.mark.parametrize("size", [31, 32])
def test_torch_padding_keeps_the_feature_shapes_of_same_padding(size):
    with keras.StatelessScope():
        same = shapes(resnet18(width=0.125), size)
        torch = shapes(resnet18(width=0.125, padding="torch"), size)
    assert same == torch


def test_width_scales_the_stem_and_every_stage():
    with keras.StatelessScope():
        found = shapes(resnet50(width=2.0), 32)
    assert [shape[-1] for shape in found.values()] == [128, 512, 1024, 2048, 4096, 4096]


def test_layer_names_are_stable():
    with keras.StatelessScope():
        backbone = resnet50(width=0.125, stem="cifar")
    names = [layer.name for layer in backbone.layers]
    assert names[:5] == ["images", "normalization", "stem_conv", "stem_bn", "stem_relu"]
    assert {n for n in names if n.startswith("stage3_block1_")} == {
        f"stage3_block1_{part}"
        for part in (
            *("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3"),
            *("shortcut_conv", "shortcut_bn", "add", "relu3"),
        )
    }


def test_bottleneck_has_its_stride_on_the_3x3_convolution():
    with keras.StatelessScope():
        backbone = resnet50(width=0.125)
    strides = [
        backbone.get_layer(f"stage3_block1_conv{i}").strides[0] for i in (1, 2, 3)
    ]
    assert strides == [1, 2, 1]


@pytest.mark.parametrize(("builder", "stages"), [(resnet18, "345"), (resnet50, "2345")])
def test_shortcut_is_projected_where_the_shape_changes(builder, stages):
    with keras.StatelessScope():
        backbone = builder(width=0.125)
    names = {layer.name for layer in backbone.layers if "shortcut_conv" in layer.name}
    assert names == {f"stage{stage}_block1_shortcut_conv" for stage in stages}


def test_normalisation_of_black_and_white_is_imagenets():
    layer = resnet18(**TINY).get_layer("normalization")
    black, white = np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
    expected_black = [-2.117903930131, -2.035714285714, -1.804444444444]
    expected_white = [2.248908296943, 2.428571428571, 2.64]
    np.testing.assert_allclose(np.ravel(layer(black)), expected_black, rtol=1e-5)
    np.testing.assert_allclose(np.ravel(layer(white)), expected_white, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channel_counts_are_normalised_with_a_half_and_a_quarter(channels):
    backbone = resnet18(channels=channels, **TINY)
    normalised = backbone.get_layer("normalization")(np.ones((1, 2, 2, channels)))
    np.testing.assert_allclose(normalised, np.full((1, 2, 2, channels), 2.0))
    outputs = backbone(np.ones((2, 16, 16, channels), "float32"))
    assert outputs["avgpool"].shape == (2, 64)


def test_given_mean_and_std_are_used():
    backbone = resnet18(channels=2, mean=[0.1, 0.2], std=[0.5, 2.0], **TINY)
    normalised = backbone.get_layer("normalization")(np.full((1, 1, 1, 2), 0.6))
    np.testing.assert_allclose(np.ravel(normalised), [1.0, 0.2], rtol=1e-6)


def test_same_and_torch_padding_differ_at_an_even_size_and_agree_at_an_odd_one():
    same = resnet18(width=0.125, stem="small")
    torch = resnet18(width=0.125, stem="small", padding="torch")
    torch.set_weights(same.get_weights())
    rng = np.random.default_rng(0)
    # 33 -> 17 -> 9 -> 5 -> 3: every stage sees an odd size, where both pad alike.
    odd = rng.random((1, 33, 33, 3), "float32")
    even = rng.random((1, 32, 32, 3), "float32")
    np.testing.assert_allclose(same(odd)["avgpool"], torch(odd)["avgpool"], atol=1e-5)
    assert np.abs(same(even)["avgpool"] - torch(even)["avgpool"]).max() > 1e-3


def test_torch_stem_is_a_convolution_padded_by_3_and_a_max_pool_padded_by_1():
    backbone = resnet18(width=0.0625, padding="torch")
    parts = outputs_of(backbone, "normalization", "stem_conv", "feature1", "stem_pool")
    images = np.random.default_rng(0).random((1, 10, 10, 3), "float32")
    normalised, convolved, feature1, pooled = (np.asarray(x[0]) for x in parts(images))
    kernel = np.asarray(backbone.get_layer("stem_conv").kernel)
    padded = np.pad(normalised, ((3, 3), (3, 3), (0, 0)))
    unpooled = np.pad(feature1, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    for i, j in np.ndindex(5, 5):
        window = padded[2 * i : 2 * i + 7, 2 * j : 2 * j + 7]
        expected = np.einsum("hwc,hwcd->d", window, kernel)
        np.testing.assert_allclose(convolved[i, j], expected, atol=1e-4)
    for i, j in np.ndindex(3, 3):
        window = unpooled[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        np.testing.assert_array_equal(pooled[i, j], window.max(axis=(0, 1)))


def test_deepmind_initializer_truncates_at_two_sigma_without_correction():
    backbone = resnet18(stem="small", width=0.5)
    kernel = np.asarray(backbone.get_layer("stage4_block2_conv1").kernel)
    sigma = 1 / math.sqrt(3 * 3 * 128)
    assert np.abs(kernel).max() <= 2 * sigma * (1 + 1e-6)
    assert np.std(kernel) == pytest.approx(0.87962566 * sigma, rel=0.02)


def test_mmselfsup_initializer_has_sigma_root_two_over_fan_out():
    backbone = resnet18(stem="small", width=0.5, initializer="mmselfsup")
    kernel = np.asarray(backbone.get_layer("stage4_block1_conv1").kernel)
    sigma = math.sqrt(2 / (3 * 3 * 128))
    assert np.std(kernel) == pytest.approx(sigma, rel=0.02)
    assert np.abs(kernel).max() > 3 * sigma


def test_kernels_of_equal_shape_start_with_different_numbers():
    backbone = resnet18(**TINY)
    first, second = (
        np.asarray(backbone.get_layer(f"stage2_block2_conv{i}").kernel) for i in (1, 2)
    )
    assert np.abs(first - second).max() > 0.01


def test_zero_last_gamma_is_in_the_last_norm_of_each_block_only():
    backbone = resnet50(width=0.125, stem="small", zero_last_gamma=True)
    zero = {
        layer.name
        for layer in backbone.layers
        if layer.name.startswith("stage")
        and "bn" in layer.name
        and not np.any(layer.gamma)
    }
    assert zero == {
        f"stage{stage}_block{block}_bn3"
        for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True)
        for block in range(1, blocks + 1)
    }


def test_gammas_start_at_one_by_default():
    backbone = resnet18(**TINY)
    gammas = [v for v in backbone.trainable_variables if v.name == "gamma"]
    assert len(gammas) == 20
    assert all(np.all(np.asarray(gamma) == 1) for gamma in gammas)


def test_batch_normalization_has_byols_settings():
    norms = [
        x for x in resnet18(**TINY).layers if x.name.endswith(("bn", "bn1", "bn2"))
    ]
    settings = {(norm.momentum, norm.epsilon, norm.synchronized) for norm in norms}
    assert len(norms) == 20
    assert settings == {(0.9, 1e-5, True)}


def test_convolutions_have_no_bias():
    backbone = resnet18(**TINY)
    assert {v.name for v in backbone.trainable_variables} == {"kernel", "gamma", "beta"}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_outputs_are_float32_under_a_mixed_policy(policy, float32_afterwards):
    keras.config.set_dtype_policy(policy)
    backbone = resnet18(**TINY)
    outputs = backbone(np.zeros((1, 16, 16, 3), "float32"))
    assert {output.dtype.name for output in outputs.values()} == {"float32"}
    assert backbone.get_layer("normalization").compute_dtype == "float32"
    assert backbone.get_layer("stage5_block2_conv2").compute_dtype in policy


def test_avgpool_is_the_mean_of_feature5():
    images = np.random.default_rng(0).random((2, 40, 48, 3), "float32")
    outputs = resnet18(**TINY)(images)
    mean = np.mean(outputs["feature5"], axis=(1, 2))
    np.testing.assert_allclose(outputs["avgpool"], mean, rtol=1e-5)


def test_gin_builds_a_backbone_by_name():
    gin.parse_config("resnet18.width = 0.125\nresnet18.stem = 'small'")
    try:
        backbone = gin.get_configurable("resnet18")()
    finally:
        gin.clear_config()
    assert backbone.output["avgpool"].shape == (None, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be a positive int. Received: 0"),
        ({"channels": 1.5}, "channels must be a positive int. Received: 1.5"),
        ({"width": 0}, "width must be a positive number. Received: 0"),
        ({"width": "two"}, "width must be a positive number. Received: 'two'"),
        (
            {"stem": "vgg"},
            "stem must be one of ('imagenet', 'cifar', 'small'). Received: 'vgg'",
        ),
        (
            {"padding": "valid"},
            "padding must be one of ('same', 'torch'). Received: 'valid'",
        ),
        (
            {"initializer": "he"},
            "initializer must be one of ('deepmind', 'mmselfsup'). Received: 'he'",
        ),
        (
            {"channels": 2, "mean": (0.5,)},
            "mean must have one number for each of the 2 channels. Received: (0.5,)",
        ),
        (
            {"std": 0.5},
            "std must have one number for each of the 3 channels. Received: 0.5",
        ),
        ({"std": (1.0, 1.0, 0.0)}, "std must be positive. Received: (1.0, 1.0, 0.0)"),
    ],
)
def test_wrong_argument_is_named_with_its_rule(arguments, message):
    with pytest.raises(ValueError) as error:
        resnet18(**arguments)
    assert str(error.value) == message
