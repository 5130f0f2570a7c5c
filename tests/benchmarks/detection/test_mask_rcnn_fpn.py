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


def test_proposals_on_objects_without_a_mask_have_no_mask_loss(backbone):
    detector = small_fpn(backbone)
    box = [8.0, 8, 40, 40]
    samples = {
        "rois": tf.constant([[box, box, box]]),
        "boxes": tf.constant([[box, box, box]]),
        "classes": tf.constant([[1, 2, 0]]),
        "indices": tf.constant([[0, 1, -1]]),
    }
    whole, unknown = np.ones((14, 14), np.float32), np.full((14, 14), -1, np.float32)
    moved = np.array([12.0, 6, 46, 38], np.float32)  # also beyond the object's box
    for rois in (samples["rois"], samples["rois"] * 0 + moved):
        for masks, expected in (
            ((whole, whole), [1, 2]),
            ((whole, unknown), [1, 0]),
            ((unknown, unknown), [0, 0]),
        ):
            _, classes, targets = detector.regions.mask_samples(
                samples | {"rois": rois}, tf.constant([masks]), 28
            )
            assert classes[0, :2].numpy().tolist() == expected
            assert set(np.unique(targets)) <= {0, 1}


@pytest.mark.slow
def test_training_without_any_mask_leaves_the_mask_head(backbone):
    detector = small_fpn(backbone)
    batch = {
        "image": tf.random.stateless_uniform((1, 64, 64, 3), (0, 1)),
        "image_info": tf.constant([[[64.0, 64], [64, 64], [1, 1], [0, 0]]]),
        "boxes": tf.constant([[[8.0, 8, 40, 40], [-1] * 4]]),
        "classes": tf.constant([[1, -1]]),
        "key": tf.constant([[0, 1]], tf.int64),
        "masks": tf.fill((1, 2, 14, 14), -1.0),
    }
    with tf.GradientTape() as tape:
        losses = detector.losses_of(batch)
        total = tf.add_n(list(losses.values()))
    assert losses["mask"] == 0.0
    assert losses["box_class"] > 0.0
    for gradient in tape.gradient(total, detector.mask_head.trainable_variables):
        assert not np.any(gradient)
