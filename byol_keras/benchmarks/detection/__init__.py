"""Detection with two-stage detectors, built on parts of TensorFlow's Model Garden.

Importing this package registers names for gin. Creating a detector needs the extra
"dense".
"""

from byol_keras.benchmarks.detection import (  # noqa: F401, registers names for gin
    dataset,
    faster_rcnn_c4,
    mask_rcnn_fpn,
)
from byol_keras.benchmarks.detection.benchmark import detection_coco, detection_voc

__all__ = ["detection_coco", "detection_voc"]
