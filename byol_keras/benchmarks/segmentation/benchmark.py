"""Semantic segmentation: all weights of a backbone, trained as an FCN."""

import dataclasses
import os
import pathlib

import gin
import keras
from absl import logging
from rich import progress

from byol_keras.benchmarks.precision import check_batch_size, computing_in
from byol_keras.benchmarks.segmentation.examples import (
    SegmentationData,
    describe,
)
from byol_keras.benchmarks.segmentation.fcn import FCN, segmenter
from byol_keras.benchmarks.segmentation.inference import draw, predictor
from byol_keras.benchmarks.segmentation.metrics import (
    Confusion,
    named_scores,
    scores,
)
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.benchmarks.training_state import SaveState, TrainingState, run_folder

_SHOW_EVERY_STEPS = 20
_READ_AHEAD = 4


@gin.register(module="byol_keras")
def segmentation_voc(
    backbone: keras.Model,
    train_data: SegmentationData = gin.REQUIRED,
    test_data: SegmentationData = gin.REQUIRED,
    recipe: SegmentationRecipe = gin.REQUIRED,
    output_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Mean IoU on PASCAL VOC 2012 after all weights were trained as an FCN.

    `backbone` itself stays as it is: a dilated twin of it is trained, with two heads.

    Args:
        backbone: functional `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, 3]` in 0..1 -> dict with `feature4` and `feature5`.
        train_data, test_data: of the same classes. Examples with bad masks are left
            out, and named in a warning.
        recipe: how to train and to test.
        output_dir: folder for the state of the training, from which the same call
            continues, and for pictures of image, mask and prediction; in a folder of
            its own for each backbone, recipe, data and seed. None writes no file.
        seed: int. Of the heads, the order of the images, the augmentations, dropout.

    Returns:
        In percent: `segmentation_voc/mIoU`, `segmentation_voc/pixel_accuracy`, and
        `segmentation_voc/IoU_<class>` of each class that is there or predicted.

    Raises:
        ValueError: for a backbone that cannot be copied or dilated or has no images of
            3 channels; for data of different classes or without a good mask.

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
    """Mean IoU on Cityscapes after all weights were trained as an FCN.

    Arguments and errors are those of `segmentation_voc`; so are the results, under
    `segmentation_cityscapes/`.

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
        model = build(backbone, len(train_data.class_names), recipe, seed)
        train(model, train_data, recipe, seed, folder and folder / "state.npz", name)
        return test(model, test_data, recipe, folder, name)


def build(
    backbone: keras.Model, num_classes: int, recipe: SegmentationRecipe, seed: int
) -> FCN:
    """The model of a recipe, ready to be trained from its first step."""
    network = segmenter(
        backbone,
        num_classes,
        recipe.output_stride,
        recipe.channels,
        recipe.auxiliary_channels,
        recipe.dropout,
        seed,
    )
    model = FCN(network, recipe.auxiliary_weight, recipe.align_corners)
    optimizer = recipe.optimizer_fn(learning_rate=recipe.schedule())
    model.compile(optimizer=optimizer, jit_compile=False)
    model.optimizer.build(network.trainable_variables)
    return model


def train(
    model: FCN,
    data: SegmentationData,
    recipe: SegmentationRecipe,
    seed: int,
    state_path: pathlib.Path | None = None,
    title: str = "segmentation",
) -> None:
    """Trains a model of `build` in place, from its saved state if there is one.

    Args:
        model: see `build`.
        data: of good masks only.
        recipe: that the model was built by.
        seed: int. Of the order of the images and of the augmentations.
        state_path: of the saved state, or None to save none.
        title: str. What the line of progress is called.
    """
    step, callbacks = 0, []
    if state_path:
        state = TrainingState(state_path, model)
        step = state.restore()
        callbacks = [SaveState(state, step, recipe.save_every_steps)]
    if step:
        print(f"resuming at step {step} of {recipe.steps}")
    if step >= recipe.steps:
        return
    dataset = recipe.view.dataset(
        data, recipe.batch_size, seed, start=step * recipe.batch_size
    )
    with _bar() as bar:
        model.fit(
            dataset,
            steps_per_epoch=recipe.steps - step,
            shuffle=False,  # the dataset has its own, reproducible order
            verbose=0,
            callbacks=[_Progress(bar, title, step, recipe.steps), *callbacks],
        )


def test(
    model: FCN,
    data: SegmentationData,
    recipe: SegmentationRecipe,
    folder: pathlib.Path | None,
    name: str,
) -> dict[str, float]:
    """Scores of a trained model, under the keys of a benchmark; draws pictures.

    Args:
        model: see `build`.
        data: of good masks only.
        recipe: that the model was built by.
        folder: where `predictions/<image>.png` are drawn; None for nowhere.
        name: str. What the keys begin with.
    """
    names = data.class_names
    predict = predictor(model, recipe.test_scale, recipe.test_window)
    confusion = Confusion(len(names))
    examples = data.rows().ordered().prefetch(_READ_AHEAD).as_numpy_iterator()
    with _bar() as bar:
        tracked = bar.track(examples, len(data.images), description=f"{name}, test")
        for place, example in enumerate(tracked):
            prediction = predict(example["image"])
            confusion.add(example["mask"], prediction)
            if folder and place < recipe.pictures:
                stem = pathlib.Path(data.images[place]).stem
                path = folder / "predictions" / f"{stem}.png"
                draw(example["image"], example["mask"], prediction, names, path)
    return named_scores(name, scores(confusion.counts), names)


def _good(name, data):
    good, bad = data.without_bad_masks()
    if bad:
        logging.warning("%s, %s: %s", name, data.name, describe(bad))
    return good


def _run_folder(output_dir, backbone, train_data, recipe, seed):
    optimizer = recipe.optimizer_fn(learning_rate=recipe.schedule())
    config = optimizer.get_config() | {"learning_rate": recipe.schedule().get_config()}
    config.pop("name")  # numbered through a process
    return run_folder(
        output_dir,
        backbone,
        train_data,
        dataclasses.replace(recipe, pictures=0, save_every_steps=1),
        (type(optimizer).__name__, config),
        seed,
    )


def _bar():
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )


class _Progress(keras.callbacks.Callback):
    """Shows the loss and the time left in one line, which stays at the end."""

    async_safe = False

    def __init__(self, bar, title, step, steps):
        super().__init__()
        self.bar = bar
        self.title = title
        self.step = step
        self.steps = steps
        self.task = bar.add_task(title, total=steps, completed=step)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # Reading the loss waits for the device.
        if self.step % _SHOW_EVERY_STEPS and self.step < self.steps:
            return
        loss = f"{self.title}, loss {float(logs['loss']):.3f}"
        self.bar.update(self.task, completed=self.step, description=loss)


def _check_run(name, backbone, train_data, test_data, recipe):
    shape = getattr(backbone, "input_shape", None)
    if not isinstance(shape, tuple) or shape[-1] != 3:
        raise ValueError(
            f"{name}.backbone must take one batch of images of 3 channels. "
            f"Received: {backbone.name!r}, which takes {shape}"
        )
    if train_data.class_names != test_data.class_names:
        raise ValueError(
            f"{name}.test_data must be of the classes of train_data. "
            f"Received: {test_data.name}"
        )
    check_batch_size("SegmentationRecipe", recipe.batch_size)
