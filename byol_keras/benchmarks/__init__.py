"""Benchmarks: functions from a backbone and its data to numbers.

Importing the package registers every benchmark for gin: one file, one import here.
"""

from byol_keras.benchmarks import schedules  # noqa: F401
from byol_keras.benchmarks.detection import detection_coco, detection_voc
from byol_keras.benchmarks.finetune import finetune
from byol_keras.benchmarks.frozen.knn import knn
from byol_keras.benchmarks.frozen.linear import linear, linear_features, linear_sweep
from byol_keras.benchmarks.frozen.logistic import logistic
from byol_keras.benchmarks.frozen.low_shot_svm import low_shot_svm
from byol_keras.benchmarks.frozen.svm import svm
from byol_keras.benchmarks.segmentation.benchmark import (
    segmentation_cityscapes,
    segmentation_voc,
)
from byol_keras.views import transforms  # noqa: F401

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
