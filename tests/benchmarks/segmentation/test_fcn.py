"""FCN: heads, loss and training step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras import backbones
from byol_keras.benchmarks.segmentation.fcn import (
    FCN,
    PixelLoss,
    resize_bilinear,
    segmenter,
)


def test_heads_have_the_published_shapes_and_initial_weights():
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


def test_heads_are_a_function_of_the_seed():
    backbone = backbones.resnet18(width=0.0625)
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


def test_two_replicas_train_like_one():
    one, two = trained(tf.distribute.get_strategy()), trained(two_replicas())
    assert one[1] == pytest.approx(two[1], rel=1e-5)
    for first, second in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_first_loss_is_that_of_guessing_times_the_sum_of_the_loss_weights():
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


def test_step_in_half_precision_scales_its_loss_and_moves_float32_weights():
    keras.config.set_dtype_policy("mixed_float16")
    rng = np.random.default_rng(0)
    network = segmenter(conv_backbone(), 2, 2, channels=4, auxiliary_channels=4)
    model = FCN(network)
    model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    kernel = network.get_layer("main_1_conv").kernel
    before = kernel.numpy()
    batch = (rng.random((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.uint8))
    loss = model.train_step(batch)["loss"]
    assert float(loss) == pytest.approx(1.4 * np.log(2), rel=0.1)
    assert kernel.dtype == "float32"
    step = np.abs(kernel.numpy() - before).max()
    assert 0.0 < step < 0.1  # of gradients whose scale is taken out again
