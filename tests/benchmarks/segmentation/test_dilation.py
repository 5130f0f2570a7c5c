"""The dilated twin computes the maps of its backbone on a finer grid."""

import keras
import numpy as np
import pytest
from keras import layers

from byol_keras import backbones
from byol_keras.benchmarks.segmentation.dilation import dilated_twin
from byol_keras.benchmarks.segmentation.fcn import segmenter
from byol_keras.export import export_backbone, load_backbone

IMAGES = np.random.default_rng(0).random((1, 64, 96, 3), np.float32)


def moved(model):
    """The model with other moving statistics, so that a lost one would show."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [w + 0.1 * rng.random(w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    return model


def resnet(depth, padding, **arguments):
    keras.utils.set_random_seed(0)
    builder = getattr(backbones, f"resnet{depth}")
    return moved(builder(width=0.0625, padding=padding, **arguments))


@pytest.fixture(scope="module")
def bottlenecks():
    """A ResNet-50 and its twin."""
    backbone = resnet(50, "torch")
    return backbone, dilated_twin(backbone)


def assert_strides_are_those_of(backbone, twin):
    expected = backbone(IMAGES)
    feature4, feature5 = twin(IMAGES)
    assert feature4.shape[1:3] == feature5.shape[1:3] == (8, 12)
    for found, stride, name in ((feature4, 2, "feature4"), (feature5, 4, "feature5")):
        scale = np.max(np.abs(expected[name]))
        np.testing.assert_allclose(
            found[:, ::stride, ::stride] / scale, expected[name] / scale, atol=2e-6
        )


@pytest.mark.parametrize("padding", ["same", "torch"])
def test_strided_maps_of_the_twin_equal_the_backbone_up_to_the_border(padding):
    backbone = resnet(18, padding)
    assert_strides_are_those_of(backbone, dilated_twin(backbone))


def test_strided_maps_of_a_twin_of_bottlenecks_equal_the_backbone(bottlenecks):
    assert_strides_are_those_of(*bottlenecks)


def test_dilation_of_bottlenecks_is_contracted(bottlenecks):
    _, twin = bottlenecks
    rates = {
        stage: [
            twin.get_layer(f"stage{stage}_block{block}_conv2").dilation_rate[0]
            for block in range(1, blocks + 1)
        ]
        for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3))
    }
    assert rates == {2: [1] * 3, 3: [1] * 4, 4: [1] + [2] * 5, 5: [2, 4, 4]}
    strides = {
        layer.name: layer.strides[0]
        for layer in twin.layers
        if isinstance(layer, layers.Conv2D) and layer.strides[0] > 1
    }
    assert strides == {
        "stem_conv": 2,
        "stage3_block1_conv2": 2,
        "stage3_block1_shortcut_conv": 2,
    }


@pytest.mark.parametrize("depth", [34, pytest.param(101, marks=pytest.mark.slow)])
def test_layers_of_the_twin_have_the_weights_of_the_same_names(depth):
    backbone = resnet(depth, "same")
    network = segmenter(backbone, num_classes=3, channels=4, auxiliary_channels=4)
    compared = 0
    for layer in backbone.layers:
        twins = network.get_layer(layer.name).get_weights() if layer.weights else []
        for found, expected in zip(twins, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)
            compared += 1
    assert compared == len(backbone.get_weights())


def test_all_of_the_twin_is_trained_with_synchronized_statistics():
    backbone = resnet(18, "same")
    backbone.trainable = False
    twin = dilated_twin(backbone)
    norms = [x for x in twin.layers if isinstance(x, layers.BatchNormalization)]
    assert len(norms) == 20
    assert all(norm.synchronized and norm.trainable for norm in norms)
    assert len(twin.trainable_weights) == 20 + 2 * 20
    assert backbone.trainable_weights == []


def test_twin_has_no_fixed_image_size_and_no_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, 16, padding="same")(images)
    backbone = keras.Model(images, {"feature4": x, "feature5": layers.ReLU()(x)})
    keras.config.set_dtype_policy("float32")
    twin = dilated_twin(backbone, output_stride=16)
    assert twin(IMAGES)[0].shape == (1, 4, 6, 4)
    assert twin.layers[1].compute_dtype == "float32"


def test_twin_computes_in_the_current_precision():
    backbone = resnet(18, "same")
    keras.config.set_dtype_policy("mixed_bfloat16")
    twin = dilated_twin(backbone)
    assert twin.get_layer("stage4_block1_conv1").compute_dtype == "bfloat16"
    assert twin.get_layer("stage4_block1_conv1").variable_dtype == "float32"
    (normalization,) = [x for x in twin.layers if isinstance(x, layers.Normalization)]
    assert normalization.compute_dtype == "float32"


def test_output_stride_of_the_backbone_changes_nothing():
    backbone = resnet(18, "same", stem="small")
    feature4, feature5 = dilated_twin(backbone, output_stride=16)(IMAGES)
    expected = backbone(IMAGES)
    np.testing.assert_allclose(feature4, expected["feature4"], atol=1e-5)
    np.testing.assert_allclose(feature5, expected["feature5"], atol=1e-5)


# Backbones that have no twin.


def refused(match, backbone, **arguments):
    with pytest.raises(ValueError, match=match) as error:
        dilated_twin(backbone, **arguments)
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)


def small(make):
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, 8, padding="same")(images)
    x = make(x)
    return keras.Model(images, {"feature4": x, "feature5": x})


def test_backbone_without_maps_is_one_line():
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, 8, padding="same")(images)
    refused("^backbone must be a functional .* feature4", keras.Model(images, x))


def test_backbone_from_a_saved_model_is_one_line(tmp_path):
    backbone = resnet(18, "same")
    export_backbone(backbone, tmp_path)
    refused(r"^backbone must .*\.keras file", load_backbone(tmp_path / "saved_model"))


def test_pool_beyond_the_output_stride_is_one_line():
    refused("must not pool beyond .* 8", small(layers.MaxPooling2D(2)))


def test_model_in_a_model_is_one_line():
    inner_input = keras.Input((None, None, 4))
    inner = keras.Model(inner_input, layers.Conv2D(4, 1)(inner_input))
    refused("must consist of layers without nested", small(inner))


def test_map_of_another_size_is_one_line():
    refused("must pad its maps", small(layers.Conv2D(4, 3)))
