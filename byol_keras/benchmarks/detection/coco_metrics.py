"""COCO's average precision of boxes and masks, computed by pycocotools."""

import contextlib
import io
import logging
from collections.abc import Sequence

import numpy as np

from byol_keras.benchmarks.detection.masks import coco_masks, encode_masks
from byol_keras.benchmarks.detection.voc_metrics import check_detections

# Positions in pycocotools' summary.
_STATISTICS = {"AP": 0, "AP50": 1, "AP75": 2}


def coco_ap(data, detections: Sequence) -> dict[str, float]:
    """Average precision of detections over overlaps of 0.50, 0.55, ..., 0.95.

    Args:
        data: `examples.DetectionData`. Its difficult objects, the crowds, are ignored.
        detections: for each image of `data.examples` a tuple of boxes `[m, 4]` (ymin,
            xmin, ymax, xmax in pixels of the image), scores `[m]`, labels `[m]` from 0,
            and masks: bool `[m, height, width]`, or encoded by `masks.encode_masks`, or
            None.

    Returns:
        In percent: `box_AP`, `box_AP50`, `box_AP75`, and if any detections have masks
        `mask_AP`, `mask_AP50`, `mask_AP75`. Unless all objects have masks, those of
        masks are not computed, and a warning says so.

    Raises:
        ValueError: if pycocotools is not installed, the numbers of images differ, there
            is no object to find, or detections have masks but the data have none.

    Source: cocodataset.org/#detection-eval; pycocotools 2.0.11.
    """
    coco_masks()
    check_detections(data, detections)
    has_masks = any(len(d) > 3 and d[3] is not None for d in detections)
    if has_masks and any(example.masks is None for example in data.examples):
        raise ValueError(
            f"detections must come without masks for data without masks. "
            f"Received: masks, for {data.name}"
        )
    maskless = sum(m is None for x in data.examples for m in x.masks or [])
    if has_masks and maskless:
        has_masks = False
        logging.getLogger("byol_keras").warning(
            "mask_AP is not computed: %d objects of %s have no mask.",
            maskless,
            data.name,
        )
    order = data.by_id()
    examples = [data.examples[place] for place in order]
    detections = [detections[place] for place in order]
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _truth(examples, data.class_names)
        truth.createIndex()
        found = _statistics(truth, _boxes(detections), "bbox", "box")
        if has_masks:
            found |= _statistics(truth, _masks(detections), "segm", "mask")
    return found


def _statistics(truth, results, kind, prefix):
    from pycocotools.cocoeval import COCOeval

    if not results:  # pycocotools cannot read an empty list
        return {f"{prefix}_{name}": 0.0 for name in _STATISTICS}
    evaluation = COCOeval(truth, truth.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {
        f"{prefix}_{name}": 100.0 * float(evaluation.stats[place])
        for name, place in _STATISTICS.items()
    }


def _truth(examples, class_names):
    """The data as the content of a COCO file, with images numbered by position."""
    images, annotations = [], []
    for number, example in enumerate(examples):
        size = {"height": example.height, "width": example.width}
        images.append({"id": number} | size)
        for index, label in enumerate(example.labels):
            annotation = _object(number, label, example.true_boxes[index])
            annotation["iscrowd"] = int(example.difficult[index])
            if example.masks is not None and example.masks[index] is not None:
                annotation["segmentation"] = _as_lists(example.masks[index])
            annotations.append(annotation)
        for label in example.lost:
            nowhere = {
                "segmentation": {
                    "size": [*size.values()],
                    "counts": [example.height * example.width],
                }
            }
            annotations.append(_object(number, label, np.zeros(4)) | nowhere)
    for place, annotation in enumerate(annotations):
        annotation["id"] = place + 1  # pycocotools uses 0 for no match
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names)]
    return {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _object(number, label, box):
    box = _as_coco(box)
    return {
        "image_id": number,
        "category_id": int(label),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


def _as_coco(box):
    ymin, xmin, ymax, xmax = np.asarray(box, np.float64).tolist()
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _as_lists(segmentation):
    if isinstance(segmentation, dict):
        return segmentation
    return [polygon.tolist() for polygon in segmentation]


def _boxes(detections):
    return [
        _answer(number, label, score) | {"bbox": _as_coco(box)}
        for number, (boxes, scores, labels, *_) in enumerate(detections)
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]


def _masks(detections):
    found = []
    for number, (_, scores, labels, masks) in enumerate(detections):
        if masks is None:
            continue
        if not isinstance(masks, list):
            masks = encode_masks(masks)
        found += [
            _answer(number, label, score) | {"segmentation": mask}
            for mask, score, label in zip(masks, scores, labels, strict=True)
        ]
    return found


def _answer(number, label, score):
    return {"image_id": number, "category_id": int(label), "score": float(score)}
