"""Our ResNets with torchvision's names, and back, are bit-exact."""

import keras
import numpy as np
import pytest

from byol_keras import backbones
from byol_keras.interop.export_torchvision import torchvision_arrays
from byol_keras.interop.files import ForeignFile
from byol_keras.interop.import_resnet import import_backbone

from support.models import torch_features, torch_weights


@pytest.mark.parametrize("depth", [18, 50])
def test_round_trip_of_torch_weights_is_bit_exact(depth):
    weights = torch_weights(depth, 8)
    backbone = import_backbone(ForeignFile("torch", weights, {})).backbone
    arrays, _ = torchvision_arrays(backbone)
    expected = {
        name: value
        for name, value in weights.items()
        if not name.startswith("fc.") and "num_batches" not in name
    }
    assert set(arrays) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == np.float32


@pytest.mark.parametrize("stem", ["imagenet", "cifar", "small"])
def test_round_trip_of_a_backbone_keeps_stem_and_normalisation(stem):
    mean, std = [0.3, 0.1], [0.7, 0.2]
    ours = backbones.resnet18(2, 0.125, stem, "torch", mean=mean, std=std)
    arrays, metadata = torchvision_arrays(ours)
    back = import_backbone(ForeignFile("safetensors", arrays, metadata)).backbone
    assert back.get_layer("stem_conv").strides == ours.get_layer("stem_conv").strides
    images = np.random.default_rng(0).random((1, 33, 40, 2), np.float32)
    for name, expected in ours(images, training=False).items():
        np.testing.assert_array_equal(back(images, training=False)[name], expected)
    for one, other in zip(back.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_have_the_features_of_a_torchvision_resnet():
    ours = backbones.resnet50(width=0.125, padding="torch")
    arrays, metadata = torchvision_arrays(ours)
    assert metadata["format"] == "pt"
    images = np.random.default_rng(0).random((2, 65, 80, 3), np.float32)
    expected = torch_features(arrays, images)
    found = ours(images, training=False)["avgpool"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_same_padding_is_refused(stem):
    with pytest.raises(ValueError, match='must have padding "torch"'):
        torchvision_arrays(backbones.resnet18(width=0.125, stem=stem))


def test_another_model_is_refused():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ValueError, match="must be a ResNet of byol_keras"):
        torchvision_arrays(model)
