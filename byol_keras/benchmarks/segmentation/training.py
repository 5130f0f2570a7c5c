"""Training of an FCN by a recipe, with a state from which it resumes."""

import pathlib

import keras

from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.benchmarks.segmentation.examples import SegmentationData
from byol_keras.benchmarks.segmentation.fcn import FCN, segmenter
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.benchmarks.training_state import SaveState, TrainingState


def compiled_fcn(
    backbone: keras.Model, num_classes: int, recipe: SegmentationRecipe, seed: int
) -> FCN:
    """The model of a recipe with a built optimizer, ready for its first step.

    Args:
        backbone: see `segmentation_voc`.
        num_classes: int.
        recipe: `SegmentationRecipe`.
        seed: int. Of the heads' initial weights and of dropout.
    """
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


def train_fcn(
    model: FCN,
    data: SegmentationData,
    recipe: SegmentationRecipe,
    seed: int,
    state_path: pathlib.Path | None = None,
    title: str = "segmentation",
) -> None:
    """Trains a model in place, starting from its saved state if there is one.

    Args:
        model: see `compiled_fcn`.
        data: `SegmentationData` without bad masks.
        recipe: the one that the model was made by.
        seed: int. Of the order of the images and of the augmentations.
        state_path: file for the saved state; None saves no state.
        title: str. Name of the training in the progress bar.

    Raises:
        ValueError: if the saved state is of another model.
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
    with TrainingProgress(title, recipe.steps, step) as shown:
        model.fit(
            dataset,
            steps_per_epoch=recipe.steps - step,
            shuffle=False,  # the dataset has its own, reproducible order
            verbose=0,
            callbacks=[shown, *callbacks],
        )
