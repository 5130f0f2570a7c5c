"""Detection benchmarks: average precision of a backbone fine-tuned in a detector."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.detection.batches import decode_image
from byol_keras.benchmarks.detection.coco_metrics import coco_ap
from byol_keras.benchmarks.detection.drawing import draw_detections
from byol_keras.benchmarks.detection.inference import detections
from byol_keras.benchmarks.detection.recipe import DetectorTraining
from byol_keras.benchmarks.detection.region_ops import model_garden
from byol_keras.benchmarks.detection.training import train_detector
from byol_keras.benchmarks.detection.voc_metrics import CONVENTIONS, voc_detection_ap
from byol_keras.benchmarks.precision import computing_in
from byol_keras.benchmarks.training_state import resumable_folder

# Side of the stored true masks, from which targets of 28 x 28 are cut.
MASK_SIZE = 112


class Setting(NamedTuple):
    """Settings of a detection benchmark; see `detection_voc` for the fields."""

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
    """Average precision of boxes after fine-tuning all weights in a detector.

    Runs under the current strategy of `tf.distribute`. The same call with the same
    `output_dir` resumes an interrupted training.

    Args:
        backbone: functional `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, 3]` in 0..1 -> dict with `feature2` to `feature5` of strides 4 to
            32. It is not changed.
        train_data, test_data: `examples.DetectionData` of the same classes.
        detector_fn: (backbone, num_classes, image_size) -> `TwoStageDetector`.
        training: `DetectorTraining`.
        image_size: (height, width) of the canvas that holds every image.
        test_short_side: int. Shorter side of the resized test images; their longer side
            is limited as in training.
        convention: "mmdetection" or "detectron2"; see `voc_metrics.voc_detection_ap`.
        precision: of training and prediction; see `precision.PRECISIONS`.
        pictures: int. Number of test images that are drawn with their detections.
        output_dir: folder for the training state and for pictures, or None.
        seed: int. Of new weights, of the order of images and of their augmentation.

    Returns:
        `detection_voc/AP50` in percent; with "detectron2" also `AP` and `AP75`.

    Raises:
        ValueError: if the extra "dense" is missing; for a backbone that does not fit,
            with a list of the differences; for data of different classes.

    Source: see gin/protocol/detection_voc.gin.
    Deviation: all images have a canvas of one size, where the references pad a batch to
        its largest image; see also `Regions`.
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
    """COCO's average precision of boxes and masks; see `detection_voc`.

    Returns:
        In percent: `detection_coco/box_AP`, `box_AP50`, `box_AP75`, and the same three
        for `mask`, if all objects of the test data have masks. An object of the
        training data without a mask trains only the boxes.

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
    """Trains a detector and returns its detections on the test images."""
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
    """Detections on all images, of which the first ones are drawn."""
    found = []
    for in_image in detections(
        detector,
        data,
        setting.image_size,
        setting.test_short_side,
        setting.training.max_long_side,
        padding_color,
    ):
        if folder and len(found) < setting.pictures:
            _draw_picture(data, len(found), in_image, folder)
        found.append(in_image)
    return found


def _draw_picture(data, place, found, folder):
    example = data.examples[place]
    encoded = tf.io.read_file(example.image_path)
    image = decode_image(encoded, example.orientation).numpy()
    path = folder / "pictures" / f"{example.image_id}.png"
    draw_detections(image, found, data.class_names, path)


def _run_folder(backbone, detector, data, setting):
    return resumable_folder(
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
    """The color that the backbone normalises to 0, used to fill the canvas."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            return tuple(np.broadcast_to(np.ravel(layer.mean), 3).tolist())
    return (0.0, 0.0, 0.0)
