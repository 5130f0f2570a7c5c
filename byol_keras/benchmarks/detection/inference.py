"""Detection on all images of a data set, in pixels of the image files."""

from collections.abc import Iterator, Sequence

import numpy as np

from byol_keras.benchmarks.detection.batches import original_boxes, test_batches
from byol_keras.benchmarks.detection.masks import encode_masks
from byol_keras.benchmarks.detection.region_ops import model_garden
from byol_keras.runtime.progress import tracked


def detections(
    detector,
    data,
    image_size: tuple[int, int],
    short_side: int,
    max_long_side: int,
    padding_color: Sequence[float],
) -> Iterator[tuple]:
    """Detections of each image, as `coco_metrics.coco_ap` takes them.

    Args:
        detector: trained `two_stage.TwoStageDetector`.
        data: `examples.DetectionData`.
        image_size, short_side, max_long_side, padding_color: see
            `batches.test_batches`.

    Yields:
        Tuples of boxes, scores, labels and masks, in the order of `data.examples`.
    """
    batches = test_batches(
        data, 1, image_size, short_side, max_long_side, padding_color
    )
    for batch in tracked(batches, "detect", len(data.examples)):
        info = batch["image_info"]
        found = detector.detect(batch["image"], info[:, 1])
        found = {name: value[0].numpy() for name, value in found.items()}
        yield in_image(found, info[0].numpy())


def in_image(found: dict[str, np.ndarray], info: np.ndarray) -> tuple:
    """Boxes, scores, labels and masks of one image, in pixels of its file.

    Args:
        found: outputs of `TwoStageDetector.detect` for the image.
        info: `[4, 2]`, its `image_info`; see `batches.training_batches`.
    """
    count = int(found["count"])
    boxes = original_boxes(found["boxes"][:count], info)
    labels = found["classes"][:count] - 1
    masks = None
    if "masks" in found:
        ymin, xmin, ymax, xmax = boxes.T
        corners = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)
        height, width = info[0].astype(int)
        masks = found["masks"][:count].astype(np.float32)
        paste = model_garden().mask_ops.paste_instance_masks
        masks = encode_masks(paste(masks, corners, height, width)) if count else []
    return boxes, found["scores"][:count], labels, masks
