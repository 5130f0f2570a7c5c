"""Benchmarks: functions from a backbone and data to metrics.

Importing the package registers every benchmark for gin. A new benchmark is one file and
one import here.
"""

from byol_keras.benchmarks import schedules  # noqa: F401, registers names for gin
from byol_keras.benchmarks.detection import detection_coco, detection_voc
from byol_keras.benchmarks.finetune import finetune
from byol_keras.benchmarks.frozen import (
    knn,
    linear,
    linear_features,
    linear_sweep,
    logistic,
    low_shot_svm,
    svm,
)
from byol_keras.benchmarks.segmentation import (
    segmentation_cityscapes,
    segmentation_voc,
)
from byol_keras.views import transforms  # noqa: F401, registers names for gin

__all__ = [
    "detection_coco",
    "detection_voc",
    "finetune",
    "knn",
    "linear",
    "linear_features",
    "linear_sweep",
    "logistic",
    "low_shot_svm",
    "segmentation_cityscapes",
    "segmentation_voc",
    "svm",
]
