"""The trainable copy of a backbone."""

import keras
import numpy as np
import pytest
from keras import layers

from byol_keras.benchmarks.baselines import RawPixels
from byol_keras.benchmarks.trainable import trainable_copy


def conv_backbone():
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    x = layers.GlobalAveragePooling2D(dtype="float32")(layers.ReLU()(x))
    return keras.Model(images, {"avgpool": x})


def test_all_weights_of_a_frozen_backbone_are_trainable_in_its_copy():
    frozen = conv_backbone()
    frozen.trainable = False
    assert len(trainable_copy(frozen).trainable_weights) == 3
    assert frozen.trainable_weights == []


def test_copy_starts_with_the_same_weights_and_shares_none_of_them():
    backbone = conv_backbone()
    copy = trainable_copy(backbone)
    for found, expected in zip(copy.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    before = backbone.weights[0].numpy()
    copy.weights[0].assign(before + 1.0)
    np.testing.assert_array_equal(backbone.weights[0], before)


def test_backbone_of_mixed_precision_is_copied_in_float32():
    backbone = conv_backbone()
    keras.config.set_dtype_policy("mixed_float16")
    mixed = conv_backbone()
    keras.config.set_dtype_policy("float32")
    mixed.set_weights(backbone.get_weights())
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected = backbone(images)["avgpool"]
    assert np.max(np.abs(mixed(images)["avgpool"] - expected)) > 1e-5
    copied = trainable_copy(mixed)(images)["avgpool"]
    np.testing.assert_allclose(copied, expected, atol=1e-6)


def test_model_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"^backbone must have weights.*raw_pixels"):
        trainable_copy(RawPixels(name="raw_pixels"))
