"""Backbones in a detector are copied and trained; wrong ones are refused."""

import keras
import numpy as np
import pytest

from byol_keras.backbones import resnet18
from byol_keras.benchmarks.detection.two_stage import trainable_backbone

from support.detectors import small_c4, small_fpn


@pytest.fixture(scope="module")
def backbone():
    return resnet18(width=0.0625)


@pytest.mark.parametrize("make", [small_c4, small_fpn])
def test_detector_starts_with_exactly_the_weights_of_the_backbone(make, backbone):
    detector = make(backbone)
    own = {}
    for layer in detector._flatten_layers():
        own.setdefault(layer.name, layer)
    compared = 0
    for layer in backbone.layers:
        for mine, given in zip(
            own[layer.name].weights if layer.weights else [], layer.weights, strict=True
        ):
            assert mine is not given
            np.testing.assert_array_equal(mine.numpy(), given.numpy())
            compared += 1
    assert compared == len(backbone.weights)


def test_all_of_a_backbone_is_trained_even_if_it_was_frozen():
    frozen = resnet18(width=0.0625)
    frozen.trainable = False
    copy = trainable_backbone(frozen, {"feature5": 32})
    trainable = [w.trainable for layer in copy.layers for w in layer.weights]
    moving = 2 * sum("_bn" in layer.name for layer in copy.layers)
    assert len(trainable) - sum(trainable) == moving
    assert not frozen.trainable


def test_normalization_of_any_backbone_is_synchronized_over_replicas():
    images = x = keras.Input((None, None, 3))
    features = {}
    for level in (4, 5):
        x = keras.layers.Conv2D(2, 3, 16 if level == 4 else 2, "same")(x)
        x = features[f"feature{level}"] = keras.layers.BatchNormalization()(x)
    copy = trainable_backbone(keras.Model(images, features), {"feature4": 16})
    norms = [x for x in copy.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert [norm.synchronized for norm in norms] == [True, True]


@pytest.mark.parametrize(
    ("wrong", "difference"),
    [
        (lambda: resnet18(width=0.0625, stem="small"), "feature4 of stride 8 instead"),
        (lambda: resnet18(width=0.0625, channels=1), "instead of 3 channels"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "not a functional model"),
    ],
)
def test_wrong_backbone_is_refused_with_its_difference(wrong, difference):
    with pytest.raises(ValueError, match=difference):
        small_c4(wrong())
