"""Semantic segmentation: a backbone is trained as a fully convolutional network."""

from byol_keras.benchmarks.segmentation.benchmark import (
    segmentation_cityscapes,
    segmentation_voc,
)

__all__ = ["segmentation_cityscapes", "segmentation_voc"]
