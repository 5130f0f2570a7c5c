"""Average precision of detections on PASCAL VOC, by two published conventions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from byol_keras.benchmarks.average_precision import average_precision_of_hits


class _Convention(NamedTuple):
    """Rule of an implementation for whether a detection matches an object."""

    thresholds: tuple[float, ...]  # of the overlap
    strict: bool  # the overlap must exceed the threshold, not only reach it
    pixels: bool  # boxes are rounded, count pixels from 1 and include the last one


CONVENTIONS = {
    "mmdetection": _Convention((0.5,), strict=False, pixels=False),
    "detectron2": _Convention(
        tuple(percent / 100 for percent in range(50, 100, 5)), strict=True, pixels=True
    ),
}


def voc_detection_ap(
    data, detections: Sequence, convention: str = "mmdetection"
) -> dict[str, float]:
    """Mean over the classes of the 11-point average precision of detections.

    Detections are matched by descending score to the object of their class with the
    largest overlap, if that overlap is sufficient. A second detection of an object is
    wrong. Detections of difficult objects are ignored.

    Args:
        data: `examples.DetectionData`.
        detections: for each image of `data.examples` a tuple of boxes `[m, 4]` (ymin,
            xmin, ymax, xmax in pixels of the image), scores `[m]` and labels `[m]` from
            0. Further entries are ignored.
        convention: `"mmdetection"`: an overlap of 0.5 or more; `"detectron2"`: above
            0.5, 0.55, ..., 0.95, with boxes one pixel larger and rounded to a decimal,
            and scores rounded to three.

    Returns:
        `AP50` in percent; with detectron2's convention also `AP`, the mean over the
        thresholds, and `AP75`.

    Raises:
        ValueError: if the convention is unknown, the numbers of images differ, or there
            is no object to find.

    Source: mmdetection 2.x, core/evaluation/mean_ap.py; detectron2,
        evaluation/pascal_voc_evaluation.py.
    Deviation: classes without an object are left out of the mean, as in mmdetection;
        detectron2 counts them as 0. Equal scores rank in the order of image ids, and
        not in that of a list. They share no threshold as in `average_precision`: with
        detectron2's rounding many scores are equal, so published values would change.
    """
    if convention not in CONVENTIONS:
        raise ValueError(
            f"convention must be one of {tuple(CONVENTIONS)}. Received: {convention!r}"
        )
    check_detections(data, detections)
    rule = CONVENTIONS[convention]
    order = data.by_id()
    examples = [data.examples[place] for place in order]
    detections = [detections[place] for place in order]
    per_class = []
    for label in range(len(data.class_names)):
        num_objects = sum(
            np.sum((x.labels == label) & ~x.difficult) + x.lost.count(label)
            for x in examples
        )
        if num_objects:
            ranking = _ranking(examples, detections, label, rule)
            per_class.append(
                [
                    average_precision_of_hits(
                        _hits(*ranking, threshold, rule), int(num_objects), "11_points"
                    )
                    for threshold in rule.thresholds
                ]
            )
    means = 100 * np.mean(per_class, axis=0)
    if convention == "mmdetection":
        return {"AP50": float(means[0])}
    at_75 = rule.thresholds.index(0.75)
    return {
        "AP": float(means.mean()),
        "AP50": float(means[0]),
        "AP75": float(means[at_75]),
    }


def check_detections(data, detections: Sequence) -> None:
    """Raises a `ValueError` unless each image has detections and any has an object.

    Args:
        data: `examples.DetectionData`.
        detections: one entry per image, which may be empty.
    """
    if len(detections) != len(data.examples):
        raise ValueError(
            f"detections must be {len(data.examples)} entries, one per image of the "
            f"data. Received: {len(detections)}"
        )
    if all(example.difficult.all() for example in data.examples):
        raise ValueError(
            f"data must contain an object that is not difficult. Received: {data.name}"
        )


def box_overlaps(boxes1, boxes2, pixels: bool = False) -> np.ndarray:
    """Intersection over union of every pair of boxes, float64 `[m, n]`.

    Args:
        boxes1, boxes2: `[m, 4]` and `[n, 4]`: ymin, xmin, ymax, xmax.
        pixels: bool. Whether the last row and column belong to the box, so that sides
            are longer by one.
    """
    boxes1, boxes2 = (np.asarray(b, np.float64) for b in (boxes1, boxes2))
    start = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    stop = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    shared = np.maximum(stop - start + pixels, 0).prod(axis=-1)
    area1, area2 = (
        (b[:, 2:] - b[:, :2] + pixels).prod(axis=-1) for b in (boxes1, boxes2)
    )
    return shared / (area1[:, None] + area2[None] - shared)


def _ranking(examples, detections, label, rule):
    """Matches of the detections of a class, by descending score.

    Returns:
        float64 `[m]`, the largest overlap of each detection; int `[m]`, the number of
        that object; bool `[m]`, whether it is difficult.
    """
    scores, overlaps, objects, difficult = [[]], [[]], [[]], [[]]
    num_before = 0
    for example, (boxes, image_scores, labels, *_) in zip(
        examples, detections, strict=True
    ):
        found, true = np.asarray(labels) == label, example.labels == label
        if found.any() and true.any():
            overlap = box_overlaps(
                _as_counted(np.asarray(boxes)[found], rule),
                _as_counted(example.true_boxes[true], rule),
                rule.pixels,
            )
            best = overlap.argmax(axis=1)
            overlaps.append(overlap.max(axis=1))
            objects.append(num_before + best)
            difficult.append(example.difficult[true][best])
        elif found.any():
            overlaps.append(np.full(found.sum(), -1.0))
            objects.append(np.full(found.sum(), -1))
            difficult.append(np.zeros(found.sum(), bool))
        scores.append(np.asarray(image_scores, np.float64)[found])
        num_before += true.sum()
    scores = np.concatenate(scores)
    ranks = np.argsort(-(scores.round(3) if rule.pixels else scores), kind="stable")
    return (
        np.concatenate(overlaps)[ranks],
        np.concatenate(objects).astype(int)[ranks],
        np.concatenate(difficult).astype(bool)[ranks],
    )


def _as_counted(boxes, rule):
    if not rule.pixels:
        return boxes
    # Pixels count from 1, so the last pixel has the number of the box's end.
    boxes = np.asarray(boxes, np.float32) + np.float32([1, 1, 0, 0])
    return boxes.astype(np.float64).round(1)


def _hits(overlaps, objects, difficult, threshold, rule):
    """Whether each detection is right, bool; those of difficult objects are dropped."""
    enough = overlaps > threshold if rule.strict else overlaps >= threshold
    ignored = enough & difficult
    candidates = np.flatnonzero(enough & ~difficult)
    _, first_of_object = np.unique(objects[candidates], return_index=True)
    hits = np.zeros(len(overlaps), bool)
    hits[candidates[first_of_object]] = True
    return hits[~ignored]
