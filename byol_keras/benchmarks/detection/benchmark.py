"""Detection as a benchmark: a backbone is fine-tuned in a detector, which is scored."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf
from rich import progress

from byol_keras.benchmarks.detection.batches import original_boxes, test_batches
from byol_keras.benchmarks.detection.coco_metrics import coco_ap
from byol_keras.benchmarks.detection.drawing import draw_detections
from byol_keras.benchmarks.detection.masks import encode_masks
from byol_keras.benchmarks.detection.region_ops import model_garden
from byol_keras.benchmarks.detection.training import (
    DetectorTraining,
    train_detector,
)
from byol_keras.benchmarks.detection.voc_metrics import CONVENTIONS, voc_detection_ap
from byol_keras.benchmarks.precision import computing_in
from byol_keras.benchmarks.training_state import run_folder

# Side of the true masks, of which those to be learnt, of 28, are cut.
MASK_SIZE = 112


class Setting(NamedTuple):
    """What the detection benchmarks have in common; see `detection_voc`."""

    detector_fn: Callable
    training: DetectorTraining
    image_size: tuple[int, int]
    test_short_side: int
    precision: str
    pictures: int
    output_dir: str | None
    seed: int


@gin.register(module="byol_keras")
def detection_voc(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    detector_fn: Callable = gin.REQUIRED,
    training: DetectorTraining = gin.REQUIRED,
    image_size: tuple[int, int] = (1344, 1344),
    test_short_side: int = 800,
    convention: str = "mmdetection",
    precision: str = "float32",
    pictures: int = 16,
    output_dir: str | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Average precision of boxes after all weights were trained in a detector.

    Runs under the current strategy of `tf.distribute`. The same call on the same
    `output_dir` goes on where it was stopped.

    Args:
        backbone: functional `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, 3]` in 0..1 -> dict with `feature2` to `feature5` of strides 4 to
            32. It stays as it is.
        train_data, test_data: `dataset.DetectionData` of the same classes.
        detector_fn: (backbone, num_classes, image_size) -> `TwoStageDetector`.
        training: `DetectorTraining`.
        image_size: (height, width) of the canvas that holds every image.
        test_short_side: int. Images of test are resized to it, and the long side to at
            most that of training.
        convention: "mmdetection" or "detectron2"; see `voc_metrics.voc_detection_ap`.
        precision: to train and predict in; see `precision.PRECISIONS`.
        pictures: int. So many images of test are drawn with what was found.
        output_dir: folder for what a resumed run needs and for pictures, or None.
        seed: int. Of new weights, of the order of images and of their augmentation.

    Returns:
        `detection_voc/AP50` in percent; with "detectron2" also `AP` and `AP75`.

    Raises:
        ValueError: if the extra "dense" is missing, for a backbone that does not fit,
            where what differs is listed, or for data of different classes.

    Source: see gin/protocol/detection_voc.gin.
    Deviation: every image lies on one canvas, where the references pad a batch to its
        largest image; see also `Regions`.
    """
    model_garden()
    if convention not in CONVENTIONS:
        raise ValueError(
            f"detection_voc.convention must be one of {tuple(CONVENTIONS)}. "
            f"Received: {convention!r}"
        )
    setting = Setting(
        detector_fn,
        training,
        tuple(image_size),
        test_short_side,
        precision,
        pictures,
        output_dir,
        seed,
    )
    found = _detections(backbone, train_data, test_data, setting, masks=False)
    scores = voc_detection_ap(test_data, found, convention)
    return {f"detection_voc/{name}": value for name, value in scores.items()}


@gin.register(module="byol_keras")
def detection_coco(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    detector_fn: Callable = gin.REQUIRED,
    training: DetectorTraining = gin.REQUIRED,
    image_size: tuple[int, int] = (1344, 1344),
    test_short_side: int = 800,
    precision: str = "float32",
    pictures: int = 16,
    output_dir: str | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Average precision of boxes and masks, as of COCO; see `detection_voc`.

    Returns:
        In percent: `detection_coco/box_AP`, `box_AP50`, `box_AP75`, and the same of
        `mask_AP`.

    Source: see gin/protocol/detection_coco.gin.
    """
    model_garden()
    setting = Setting(
        detector_fn,
        training,
        tuple(image_size),
        test_short_side,
        precision,
        pictures,
        output_dir,
        seed,
    )
    found = _detections(backbone, train_data, test_data, setting, masks=True)
    scores = coco_ap(test_data, found)
    return {f"detection_coco/{name}": value for name, value in scores.items()}


def _detections(backbone, train_data, test_data, setting, masks):
    """What a trained detector finds on each image of test, as the metrics take it."""
    if train_data.class_names != test_data.class_names:
        raise ValueError(
            f"test_data must have the {len(train_data.class_names)} classes of "
            f"train_data. Received: {len(test_data.class_names)} in {test_data.name}"
        )
    color = _mean_color(backbone)
    with computing_in(setting.precision):
        keras.utils.set_random_seed(setting.seed)
        detector = setting.detector_fn(
            backbone, len(train_data.class_names), setting.image_size
        )
        folder = _run_folder(backbone, detector, train_data, setting)
        train_detector(
            detector,
            train_data,
            setting.training,
            setting.image_size,
            mask_size=MASK_SIZE if masks else None,
            padding_color=color,
            state_path=folder and folder / "state.npz",
            seed=setting.seed,
        )
        return _predict(detector, test_data, setting, color, folder)


def _predict(detector, data, setting, padding_color, folder):
    """Detections on all images, each a tuple as `coco_metrics.coco_ap` takes it."""
    batches = test_batches(
        data,
        1,
        setting.image_size,
        setting.test_short_side,
        setting.training.max_long_side,
        padding_color,
    )
    detections = []
    for batch in progress.track(batches, "detect", total=len(data.examples)):
        info = batch["image_info"]
        found = detector.detect(batch["image"], info[:, 1])
        found = {name: value[0].numpy() for name, value in found.items()}
        detections.append(_in_image(found, info[0].numpy()))
        place = len(detections) - 1
        if folder and place < setting.pictures:
            _draw(data, place, detections[place], folder)
    return detections


def _in_image(found, info):
    """Boxes, scores, labels and masks in pixels of the image file."""
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


def _draw(data, place, detections, folder):
    example = data.examples[place]
    image = tf.io.decode_image(tf.io.read_file(example.image_path), channels=3).numpy()
    path = folder / "pictures" / f"{example.image_id}.png"
    draw_detections(image, detections, data.class_names, path)


def _run_folder(backbone, detector, data, setting):
    return run_folder(
        setting.output_dir,
        backbone,
        data,
        type(detector).__name__,
        detector.regions.settings,
        setting.training,
        setting.image_size,
        setting.precision,
        setting.seed,
    )


def _mean_color(backbone) -> Sequence[float]:
    """What the backbone normalises to 0: with it the canvas is filled up."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            return tuple(np.broadcast_to(np.ravel(layer.mean), 3).tolist())
    return (0.0, 0.0, 0.0)
