"""Mask R-CNN needs four features and returns a probability for each cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.backbones import resnet18

from support.detectors import small_fpn


@pytest.fixture(scope="module")
def backbone():
    return resnet18(width=0.0625)


def test_backbone_without_features_is_refused_with_their_names(backbone):
    images = backbone.input
    short = keras.Model(images, {"feature4": backbone.output["feature4"]})
    with pytest.raises(ValueError, match="no feature2, feature3, feature5 among"):
        small_fpn(short)


def test_detector_of_masks_gives_a_probability_for_each_cell(backbone):
    images = tf.zeros([1, 64, 64, 3])
    found = small_fpn(backbone).detect(images, tf.constant([[64.0, 64.0]]))
    assert found["masks"].shape == (1, 5, 28, 28)
    assert 0.0 <= np.min(found["masks"]) <= np.max(found["masks"]) <= 1.0
