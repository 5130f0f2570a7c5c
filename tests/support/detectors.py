"""Small detectors, and the Model Garden's parts that they need."""

import pytest

from byol_keras.benchmarks.detection.faster_rcnn_c4 import FasterRCNNC4
from byol_keras.benchmarks.detection.mask_rcnn_fpn import MaskRCNNFPN
from byol_keras.benchmarks.detection.region_ops import Regions, model_garden

C4_ANCHORS = {4: (24, 40)}
FPN_ANCHORS = {level: (2 ** (level + 2),) for level in range(2, 7)}


def model_garden_or_skip():
    """The parts of the extra "dense"; the test is skipped where it is missing."""
    try:
        return model_garden()
    except ValueError as error:
        pytest.skip(str(error))


def small_regions(anchor_sizes):
    """Region operations of few anchors and proposals."""
    model_garden_or_skip()
    return Regions(
        anchor_sizes,
        rpn_samples=16,
        pre_nms=30,
        proposals=20,
        test_pre_nms=30,
        test_proposals=20,
        roi_samples=8,
        max_detections=5,
    )


def small_c4(backbone, num_classes=3, image_size=(64, 64), anchor_sizes=C4_ANCHORS):
    regions = small_regions(anchor_sizes)
    return FasterRCNNC4(backbone, num_classes, image_size, regions, rpn_channels=8)


def small_fpn(backbone, num_classes=3, image_size=(64, 64)):
    regions = small_regions(FPN_ANCHORS)
    return MaskRCNNFPN(
        backbone, num_classes, image_size, regions, channels=8, convs=1, units=8
    )
