"""Claims about byol_keras.benchmarks.fcn: the twin is the backbone on a finer grid."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras import backbones
from byol_keras.benchmarks.fcn import (
    FCN,
    PixelLoss,
    dilated_twin,
    resize_bilinear,
    segmenter,
)
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
def test_strides_of_the_twin_are_the_backbone_to_the_border(padding):
    backbone = resnet(18, padding)
    assert_strides_are_those_of(backbone, dilated_twin(backbone))


def test_strides_of_a_twin_of_bottlenecks_are_the_backbone_too(bottlenecks):
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
def test_twin_has_the_weights_of_the_layers_of_its_names(depth):
    backbone = resnet(depth, "same")
    network = segmenter(backbone, num_classes=3, channels=4, auxiliary_channels=4)
    compared = 0
    for layer in backbone.layers:
        twins = network.get_layer(layer.name).get_weights() if layer.weights else []
        for found, expected in zip(twins, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)
            compared += 1
    assert compared == len(backbone.get_weights())


def test_everything_of_the_twin_is_trained_with_synchronised_statistics():
    backbone = resnet(18, "same")
    backbone.trainable = False
    twin = dilated_twin(backbone)
    norms = [x for x in twin.layers if isinstance(x, layers.BatchNormalization)]
    assert len(norms) == 20
    assert all(norm.synchronized and norm.trainable for norm in norms)
    assert len(twin.trainable_weights) == 20 + 2 * 20
    assert backbone.trainable_weights == []


def test_backbone_of_one_image_size_and_mixed_precision_is_freed_of_both():
    keras.config.set_dtype_policy("mixed_float16")
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, 16, padding="same")(images)
    backbone = keras.Model(images, {"feature4": x, "feature5": layers.ReLU()(x)})
    keras.config.set_dtype_policy("float32")
    twin = dilated_twin(backbone, output_stride=16)
    assert twin(IMAGES)[0].shape == (1, 4, 6, 4)
    assert twin.layers[1].compute_dtype == "float32"


def test_output_stride_of_the_backbone_leaves_it_as_it_is():
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
    refused("must be made of single layers", small(inner))


def test_map_of_another_size_is_one_line():
    refused("must pad its maps", small(layers.Conv2D(4, 3)))


# The heads, the loss, and the step.


def test_heads_have_the_published_shapes_and_first_weights():
    backbone = backbones.resnet18(width=0.5)
    network = segmenter(backbone, num_classes=21, channels=512, seed=3)
    shapes = {
        layer.name: tuple(layer.kernel.shape)
        for layer in network.layers
        if layer.name.startswith(("main", "auxiliary")) and hasattr(layer, "kernel")
    }
    assert shapes == {
        "main_1_conv": (3, 3, 256, 512),
        "main_2_conv": (3, 3, 512, 512),
        "main_3_conv": (3, 3, 256 + 512, 512),
        "main_logits": (1, 1, 512, 21),
        "auxiliary_1_conv": (3, 3, 128, 256),
        "auxiliary_logits": (1, 1, 256, 21),
    }
    deviation = np.std(network.get_layer("main_2_conv").kernel)
    assert deviation == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)
    assert np.std(network.get_layer("main_logits").kernel) == pytest.approx(
        0.01, rel=0.05
    )


def test_heads_of_a_seed_are_the_same_and_of_another_seed_not():
    backbone = resnet(18, "same")
    first, same, other = (
        segmenter(backbone, 3, channels=4, auxiliary_channels=4, seed=seed)
        for seed in (1, 1, 2)
    )
    kernels = [x.get_layer("main_1_conv").kernel.numpy() for x in (first, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.1


def test_loss_is_the_mean_over_all_pixels_with_the_ignored_ones():
    masks = np.array([[[0, 255], [255, 255]]], np.uint8)
    logits = np.zeros((1, 2, 2, 4), np.float32)
    assert float(PixelLoss()(masks, logits)) == pytest.approx(np.log(4) / 4, rel=1e-6)


def test_corners_are_aligned_or_not_as_in_torch():
    maps = tf.constant([0.0, 1.0, 4.0])[None, None, :, None]
    found = [
        resize_bilinear(maps, (1, 5), align)[0, 0, :, 0].numpy().tolist()
        for align in (True, False)
    ]
    assert found[0] == pytest.approx([0.0, 0.5, 1.0, 2.5, 4.0])
    assert found[1] == pytest.approx([0.0, 0.4, 1.0, 2.8, 4.0])


def two_replicas():
    # TensorFlow's default reduction on CPUs fails in a process that has used another
    # strategy before.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def conv_backbone():
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization(momentum=0.9)(x)
    y = layers.Conv2D(4, 3, 2, padding="same")(layers.ReLU()(x))
    return keras.Model(images, {"feature4": x, "feature5": y})


def trained(strategy, auxiliary_weight=0.4):
    rng = np.random.default_rng(0)
    images = rng.random((8, 8, 8, 3), np.float32)
    masks = rng.choice([0, 1, 255], (8, 8, 8)).astype(np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4).repeat()
    with strategy.scope():
        keras.utils.set_random_seed(1)
        network = segmenter(
            conv_backbone(), 2, 2, channels=4, auxiliary_channels=4, dropout=0.0
        )
        model = FCN(network, auxiliary_weight)
        model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
        history = model.fit(batches, steps_per_epoch=4, verbose=0, shuffle=False)
    return network.get_weights(), history.history["loss"][0]


def test_two_replicas_are_one():
    one, two = trained(tf.distribute.get_strategy()), trained(two_replicas())
    assert one[1] == pytest.approx(two[1], rel=1e-5)
    for first, second in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_first_loss_is_that_of_guessing_times_the_sum_of_the_weights():
    rng = np.random.default_rng(0)
    masks = rng.choice([0, 1, 255], (1, 8, 8)).astype(np.uint8)
    network = segmenter(conv_backbone(), 2, 2, channels=4, auxiliary_channels=4)
    for name in ("main_logits", "auxiliary_logits"):
        network.get_layer(name).kernel.assign(tf.zeros((1, 1, 4, 2)))
    model = FCN(network, auxiliary_weight=0.4)
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False)
    batch = (rng.random((1, 8, 8, 3), np.float32), masks)
    loss = model.train_step(batch)["loss"]
    assert float(loss) == pytest.approx(
        1.4 * np.log(2) * np.mean(masks < 255), rel=1e-5
    )
