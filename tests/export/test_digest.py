"""The digest of a backbone identifies its weights and its configuration."""

import keras
import numpy as np
import pytest

from byol_keras.export import export_backbone, load_backbone
from byol_keras.export.digest import backbone_digest


@pytest.fixture(scope="module")
def backbone():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


def test_exports_of_the_same_weights_have_the_same_digest(backbone, tmp_path):
    digests = []
    for _ in range(2):
        export_backbone(backbone, tmp_path)
        digests.append(backbone_digest(load_backbone(tmp_path)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("kind", ["backbone.keras", "saved_model"])
def test_smallest_change_of_one_weight_changes_the_digest(kind, backbone, tmp_path):
    export_backbone(backbone, tmp_path)
    first, second = (load_backbone(tmp_path / kind) for _ in range(2))
    assert backbone_digest(first) == backbone_digest(second)
    weight = second.weights[0]
    weight.assign(np.nextafter(weight.numpy(), np.float32(9)))
    assert backbone_digest(first) != backbone_digest(second)


def test_configurations_with_equal_weights_have_different_digests():
    def with_stride(strides):
        layer = keras.layers.Conv2D(
            1, 3, strides=strides, kernel_initializer="ones", name="conv"
        )
        images = keras.Input((8, 8, 1), name="images")
        return keras.Model(images, layer(images), name="backbone")

    digests = [backbone_digest(with_stride(s)) for s in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]
