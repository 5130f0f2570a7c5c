"""Detections are converted from the canvas to the image file."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks.detection.dataset import voc_detection
from byol_keras.benchmarks.detection.inference import detections, in_image

from support.detectors import model_garden_or_skip
from support.scenes import make_scenes, write_vocdevkit

# An image of 20 x 40 that is twice as large on the canvas.
INFO = np.array([[20, 40], [40, 80], [2, 2], [0, 0]], np.float32)
FOUND = {
    "count": np.int32(2),
    "boxes": np.array([[2, 4, 22, 44], [0, 0, 90, 90], [-1] * 4], np.float32),
    "scores": np.array([0.9, 0.8, 0.0], np.float32),
    "classes": np.array([3, 1, 0], np.int32),
}


def test_padding_is_dropped_and_boxes_are_in_pixels_of_the_file():
    boxes, scores, labels, masks = in_image(FOUND, INFO)
    assert boxes.tolist() == [[1, 2, 11, 22], [0, 0, 20, 40]]
    np.testing.assert_array_equal(scores, np.float32([0.9, 0.8]))
    assert labels.tolist() == [2, 0]
    assert masks is None


def test_mask_of_a_whole_box_fills_the_box_in_the_image():
    mask_module = pytest.importorskip("pycocotools.mask")
    model_garden_or_skip()
    found = FOUND | {"count": np.int32(1), "masks": np.ones((3, 28, 28), np.float32)}
    *_, (mask,) = in_image(found, INFO)
    pixels = mask_module.decode(mask)
    # The Model Garden rounds the edges of the box, 1 to 11 and 2 to 22, by a pixel.
    assert pixels[2:10, 3:21].all()
    pixels[0:12, 1:23] = 0
    assert not pixels.any()


def test_image_without_detections_has_no_masks():
    found = FOUND | {"count": np.int32(0), "masks": np.ones((3, 28, 28), np.float32)}
    model_garden_or_skip()
    boxes, scores, labels, masks = in_image(found, INFO)
    assert len(boxes) == len(scores) == len(labels) == 0
    assert masks == []


class WholeImages:
    """A detector that finds one object of class 1, the whole image."""

    def detect(self, images, image_shape):
        box = tf.concat([[[0.0, 0.0]], image_shape], axis=1)
        return {
            "count": tf.constant([1]),
            "boxes": box[:, None],
            "scores": tf.constant([[1.0]]),
            "classes": tf.constant([[1]]),
        }


def test_every_image_has_its_detections_in_order(tmp_path):
    scenes = [make_scenes(1, size=size)[0] for size in ((48, 64), (64, 48))]
    write_vocdevkit(tmp_path, {"2007": {"test": scenes}})
    data = voc_detection(tmp_path, [("2007", "test")])
    found = list(detections(WholeImages(), data, (64, 64), 32, 64, (0.0, 0.0, 0.0)))
    assert [boxes.tolist() for boxes, *_ in found] == [
        [[0, 0, 48, 64]],
        [[0, 0, 64, 48]],
    ]
