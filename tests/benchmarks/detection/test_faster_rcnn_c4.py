"""The split of a backbone for a C4 head."""

import keras
import numpy as np
import pytest

from byol_keras.backbones import resnet18
from byol_keras.benchmarks.detection.faster_rcnn_c4 import split_backbone


@pytest.fixture(scope="module")
def backbone():
    return resnet18(width=0.0625)


def test_parts_of_a_split_backbone_compute_its_feature4_and_feature5(backbone):
    trunk, stage5 = split_backbone(backbone)
    images = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    features = backbone(images)
    maps = trunk(images)
    np.testing.assert_array_equal(maps, features["feature4"])
    np.testing.assert_array_equal(stage5(maps), features["feature5"])
    parts = len(trunk.weights) + len(stage5.weights)
    assert parts == len(backbone.weights)


def test_backbone_whose_last_stage_does_not_start_at_feature4_is_refused(backbone):
    outputs = dict(backbone.output)
    outputs["feature4"] = keras.layers.AveragePooling2D(4)(outputs["feature2"])
    with pytest.raises(ValueError, match="feature5 from feature4 alone"):
        split_backbone(keras.Model(backbone.input, outputs))
