"""Segmentation benchmarks: mean IoU of a backbone that is fine-tuned as an FCN."""

import dataclasses
import logging
import os
import pathlib

import gin
import keras

from byol_keras.benchmarks.precision import check_batch_size, computing_in
from byol_keras.benchmarks.segmentation.drawing import draw_segmentation
from byol_keras.benchmarks.segmentation.examples import SegmentationData, describe
from byol_keras.benchmarks.segmentation.fcn import FCN
from byol_keras.benchmarks.segmentation.inference import predictor
from byol_keras.benchmarks.segmentation.metrics import (
    Confusion,
    named_scores,
    scores,
)
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.benchmarks.segmentation.training import compiled_fcn, train_fcn
from byol_keras.benchmarks.training_state import resumable_folder
from byol_keras.runtime.progress import ProgressBar

_READ_AHEAD = 4
_logger = logging.getLogger("byol_keras")


@gin.register(module="byol_keras")
def segmentation_voc(
    backbone: keras.Model,
    train_data: SegmentationData = gin.REQUIRED,
    test_data: SegmentationData = gin.REQUIRED,
    recipe: SegmentationRecipe = gin.REQUIRED,
    output_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Mean IoU on PASCAL VOC 2012 after fine-tuning all weights as an FCN.

    A dilated copy of `backbone` is trained with two heads; `backbone` is not changed.

    Args:
        backbone: functional `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, 3]` in 0..1 -> dict with `feature4` and `feature5`.
        train_data, test_data: `SegmentationData` of the same classes. Examples with bad
            masks or images are left out, and a warning lists them.
        recipe: `SegmentationRecipe` for training and test.
        output_dir: folder for the training state, from which the same call resumes, and
            for pictures of image, mask and prediction. Each combination of backbone,
            recipe, data and seed has a subfolder of its own. None writes no file.
        seed: int. Of the heads, the order of the images, the augmentations, dropout.

    Returns:
        In percent: `segmentation_voc/mIoU`, `segmentation_voc/pixel_accuracy`, and
        `segmentation_voc/IoU_<class>` of each class in the masks or the predictions.

    Raises:
        ValueError: for a backbone that cannot be copied or dilated, or whose images do
            not have 3 channels; for data of different classes or without a good mask.

    Source: mmselfsup 0.x, `fcn_r50-d8_512x512_20k_voc12aug`.
    """
    return _segmentation(
        "segmentation_voc", backbone, train_data, test_data, recipe, output_dir, seed
    )


@gin.register(module="byol_keras")
def segmentation_cityscapes(
    backbone: keras.Model,
    train_data: SegmentationData = gin.REQUIRED,
    test_data: SegmentationData = gin.REQUIRED,
    recipe: SegmentationRecipe = gin.REQUIRED,
    output_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Mean IoU on Cityscapes after fine-tuning all weights as an FCN.

    Arguments, errors and results are those of `segmentation_voc`, with keys that start
    with `segmentation_cityscapes/`.

    Source: mmselfsup 0.x, `fcn_r50-d8_769x769_40k_cityscapes`.
    """
    name = "segmentation_cityscapes"
    return _segmentation(
        name, backbone, train_data, test_data, recipe, output_dir, seed
    )


def _segmentation(name, backbone, train_data, test_data, recipe, output_dir, seed):
    _check_run(name, backbone, train_data, test_data, recipe)
    folder = _run_folder(output_dir, backbone, train_data, recipe, seed)
    train_data, test_data = (_good(name, data) for data in (train_data, test_data))
    with computing_in(recipe.precision):
        model = compiled_fcn(backbone, len(train_data.class_names), recipe, seed)
        state_path = folder and folder / "state.npz"
        train_fcn(model, train_data, recipe, seed, state_path, name)
        return evaluate_fcn(model, test_data, recipe, folder, name)


def evaluate_fcn(
    model: FCN,
    data: SegmentationData,
    recipe: SegmentationRecipe,
    folder: pathlib.Path | None,
    name: str,
) -> dict[str, float]:
    """Scores of a trained model under the keys of a benchmark.

    Args:
        model: trained; see `training.train_fcn`.
        data: `SegmentationData` without bad masks.
        recipe: the one that the model was made by.
        folder: for pictures, `predictions/<image>.png`; None draws none.
        name: str. First part of the keys.
    """
    names = data.class_names
    predict = predictor(model, recipe.test_scale, recipe.test_window)
    confusion = Confusion(len(names))
    examples = data.rows().ordered().prefetch(_READ_AHEAD).as_numpy_iterator()
    with ProgressBar(f"{name}, test", len(data.images)) as bar:
        for place, example in enumerate(examples):
            prediction = predict(example["image"])
            confusion.add(example["mask"], prediction)
            if folder and place < recipe.pictures:
                stem = pathlib.Path(data.images[place]).stem
                path = folder / "predictions" / f"{stem}.png"
                images = example["image"], example["mask"], prediction
                draw_segmentation(*images, names, path)
            bar.advance()
    if not confusion.counts.any():
        raise ValueError(
            f"{name}.test_data must have pixels of a class. Received: {data.name}, "
            "whose masks have ignored pixels only"
        )
    return named_scores(name, scores(confusion.counts), names)


def _good(name, data):
    good, bad = data.without_bad_masks()
    if bad:
        _logger.warning("%s, %s: %s", name, data.name, describe(bad))
    return good


def _run_folder(output_dir, backbone, train_data, recipe, seed):
    optimizer = recipe.optimizer_fn(learning_rate=recipe.schedule())
    config = optimizer.get_config() | {"learning_rate": recipe.schedule().get_config()}
    config.pop("name")  # Keras numbers the names within a process
    return resumable_folder(
        output_dir,
        backbone,
        train_data,
        dataclasses.replace(recipe, pictures=0, save_every_steps=1),
        (type(optimizer).__name__, config),
        seed,
    )


def _check_run(name, backbone, train_data, test_data, recipe):
    shape = getattr(backbone, "input_shape", None)
    if not isinstance(shape, tuple) or shape[-1] != 3:
        raise ValueError(
            f"{name}.backbone must take one batch of images of 3 channels. "
            f"Received: {backbone.name!r}, which takes {shape}"
        )
    if train_data.class_names != test_data.class_names:
        raise ValueError(
            f"{name}.test_data must have the classes of train_data. "
            f"Received: {test_data.name}"
        )
    check_batch_size("SegmentationRecipe", recipe.batch_size)
