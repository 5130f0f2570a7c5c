"""Intersection over union of predicted and true classes, over all pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

IGNORED = 255


class Confusion:
    """Confusion matrix of pixels, filled image by image.

    Args:
        num_classes: int.

    Attributes:
        counts: int64 `[classes, classes]`: true class, predicted class.
    """

    def __init__(self, num_classes: int):
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, mask: np.ndarray, prediction: np.ndarray) -> None:
        """Adds the pixels of one image, except those with label 255.

        Args:
            mask: integers `[h, w]`: class, or 255.
            prediction: integers `[h, w]`: class.
        """
        counted = mask != IGNORED
        num_classes = len(self.counts)
        pairs = num_classes * mask[counted].astype(np.int64) + prediction[counted]
        found = np.bincount(pairs, minlength=num_classes**2)
        self.counts += found.reshape(self.counts.shape)


class Scores(NamedTuple):
    """Scores in percent; NaN for a class that is neither in a mask nor predicted."""

    mean_iou: float
    pixel_accuracy: float
    iou: tuple[float, ...]


def scores(counts: np.ndarray) -> Scores:
    """Mean IoU over the classes, pixel accuracy, and IoU of each class.

    Classes that are neither in a mask nor predicted are left out of the mean.

    Args:
        counts: int64 `[classes, classes]`; see `Confusion`.

    Source: mmsegmentation 0.x, `core/evaluation/metrics.py`.
    """
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hits
    present = union > 0
    iou = np.full(len(hits), np.nan)
    iou[present] = 100.0 * hits[present] / union[present]
    if not present.any():
        return Scores(float("nan"), float("nan"), tuple(iou.tolist()))
    accuracy = 100.0 * hits.sum() / counts.sum()
    return Scores(float(iou[present].mean()), float(accuracy), tuple(iou.tolist()))


def named_scores(
    benchmark: str, found: Scores, class_names: Sequence[str]
) -> dict[str, float]:
    """Scores under the keys of a benchmark, without classes whose IoU is NaN."""
    per_class = {
        f"{benchmark}/IoU_{name.replace(' ', '_')}": value
        for name, value in zip(class_names, found.iou, strict=True)
        if not np.isnan(value)
    }
    return {
        f"{benchmark}/mIoU": found.mean_iou,
        f"{benchmark}/pixel_accuracy": found.pixel_accuracy,
        **per_class,
    }
