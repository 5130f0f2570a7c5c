"""Fine-tuning: trains all weights of a backbone on some or all labels."""

import itertools
import logging
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import gin
import keras
import tensorflow as tf

from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import (
    NonfiniteFeatures,
    extract_all,
    read_feature,
)
from byol_keras.benchmarks.precision import check_batch_size
from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.benchmarks.splits import check_splits, split_places
from byol_keras.benchmarks.trainable import trainable_copy
from byol_keras.schedules import RunLength

_logger = logging.getLogger("byol_keras")


class GridPoint(NamedTuple):
    """Settings of one trial."""

    epochs: int
    base_learning_rate: float
    head_multiplier: float


class Recipe(NamedTuple):
    """Settings that all trials share; see `finetune` for the fields."""

    train_view: Any
    batch_size: int
    optimizer_fn: Callable
    learning_rate_fn: Callable
    seed: int


class Accuracy(NamedTuple):
    """Top-1 and top-5 accuracy in percent."""

    top1: float
    top5: float


@gin.register(module="byol_keras")
def finetune(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    train_view=gin.REQUIRED,
    optimizer_fn: Callable = gin.REQUIRED,
    learning_rate_fn: Callable = gin.REQUIRED,
    epochs: Sequence[int] = gin.REQUIRED,
    base_learning_rates: Sequence[float] = gin.REQUIRED,
    head_multipliers: Sequence[float] = (1, 10, 100),
    batch_size: int = 256,
    transform: Callable | None = None,
    validation_data=None,
    tuning_data=None,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy after training all weights on labels, for the best point of a grid.

    Each combination of epochs, learning rate and head multiplier is one trial. It
    starts from the weights of `backbone`, which is not changed, and from a new head on
    its `avgpool` with the same initial weights. The point of the grid is chosen by
    accuracy on validation data. Some published figures are the best accuracy of a grid
    on the test data; it is reported too, under a name that says so.

    Args:
        backbone: a `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, C]` in 0..1 -> dict with `avgpool` `[B, D]`, or `[B, D]`. Layers
            that compute in float16 are trained in float32.
        train_data, test_data: `ImageData` with one label per image.
        train_view: `AugmentedView` of the training images.
        optimizer_fn: (learning_rate) -> Keras optimizer. Called twice per trial, for
            the backbone and for the head.
        learning_rate_fn: (run_length, base_learning_rate) -> schedule or float.
        epochs: numbers of passes over the training data.
        base_learning_rates: per 256 images.
        head_multipliers: learning rates of the head, as multiples of the backbone's.
        batch_size: int. Images per step, over all replicas. The last batch of a pass is
            filled with the first images of the pass.
        transform: of validation and test images; see `features.extract_all`.
        validation_data: `ImageData` for the choice of the point, without any image of
            the tuning data. None holds out a fifth of each class of `train_data`, and
            tunes on the rest.
        tuning_data: `ImageData` to train on for the choice of the point. Each point is
            then trained twice, on these and on `train_data`. None uses `train_data` for
            both.
        seed: int. Of the head, the order of the images, the augmentations, the split.

    Returns:
        In percent: `finetune/top1` and `finetune/top5` on the test data, of the point
        chosen on validation data; `finetune/validation_top1` of that point; and
        `finetune/top1_grid_chosen_on_test`, the best test accuracy of all points. Also
        the chosen `finetune/epochs`, `finetune/base_learning_rate` and
        `finetune/head_multiplier`.

    Raises:
        ValueError: for a backbone without trainable weights or that cannot be copied,
            such as one from a SavedModel; for a number out of its range; for data
            without one label per image, with other classes than `train_data` or other
            channels than the backbone, or of different sizes without a `transform`.

    Source: mmselfsup 0.x, `configs/benchmarks/classification/imagenet/`, and arXiv
        2006.07733 appendix C.1; see gin/protocol/.
    """
    train_data = train_data.readable()
    tuning_data = tuning_data and tuning_data.readable()
    points = _grid(epochs, base_learning_rates, head_multipliers)
    recipe = Recipe(train_view, batch_size, optimizer_fn, learning_rate_fn, seed)
    tuning_data, validation_data = _tuning_parts(
        train_data, tuning_data, validation_data, seed
    )
    trained_on = [tuning_data]
    if tuning_data is not train_data:
        trained_on.append(train_data)
    _check_recipe(recipe, trained_on)
    others = {"validation_data": validation_data, "test_data": test_data}
    check_splits("finetune", train_data, tuning_data=tuning_data, **others)
    _check_backbone(backbone, train_data)
    _check_sizes(transform, others)

    scores = []
    for point in points:
        # Both scores come from one model if tuning data are the training data.
        models = [fine_tuned(backbone, data, point, recipe) for data in trained_on]
        validation = accuracy(models[0], validation_data, transform)
        scores.append((point, validation, accuracy(models[-1], test_data, transform)))
    return _results(scores)


def _results(scores):
    point, validation, test = max(scores, key=lambda score: score[1].top1)
    best_on_test = max(test.top1 for _, _, test in scores)
    return {
        "finetune/top1": test.top1,
        "finetune/top5": test.top5,
        "finetune/top1_grid_chosen_on_test": best_on_test,
        "finetune/validation_top1": validation.top1,
        **{f"finetune/{name}": float(x) for name, x in point._asdict().items()},
    }


def fine_tuned(
    backbone: keras.Model, data, point: GridPoint, recipe: Recipe
) -> "Classifier":
    """Runs one trial: trains a copy of the backbone and a new head.

    Args:
        backbone: see `finetune`. It is not changed.
        data: `ImageData` to train on.
        point: settings of the trial.
        recipe: settings that all trials share.
    """
    length = _length(data, recipe.batch_size, point.epochs)

    def optimizer(multiplier):
        rate = point.base_learning_rate * multiplier
        schedule = recipe.learning_rate_fn(length, base_learning_rate=rate)
        return recipe.optimizer_fn(learning_rate=schedule)

    model = Classifier(
        trainable_copy(backbone),
        len(data.class_names),
        head_optimizer=optimizer(point.head_multiplier),
        seed=recipe.seed,
    )
    model.compile(optimizer=optimizer(1.0), jit_compile=False)
    dataset = recipe.train_view.dataset(
        data, recipe.batch_size, recipe.seed, pass_length=length.pass_length
    )
    # A call on symbolic images creates all variables before the step is traced.
    model(keras.KerasTensor(dataset.element_spec[0].shape, dtype="float32"))
    model.head_optimizer.build(model.head.trainable_variables)
    text = "finetune, {} epochs, rate {:g}, head x {:g}".format(*point)
    with TrainingProgress(text, length.total_steps) as shown:
        model.fit(
            dataset,
            steps_per_epoch=length.total_steps,
            shuffle=False,  # the dataset has its own, reproducible order
            verbose=0,
            callbacks=[shown],
        )
    return model


class Classifier(keras.Model):
    """A backbone and a linear head on its `avgpool`, trained together.

    `fit` takes batches of images, float32 `[B, H, W, C]` in 0..1, and labels, int64
    `[B]`. The optimizer passed to `compile` trains the backbone.

    Args:
        backbone: `keras.Model`; see `finetune`.
        num_classes: int.
        head_optimizer: Keras optimizer of the head.
        seed: int. Of the head's kernel, N(0, 0.01). Its bias starts at 0.
    """

    def __init__(self, backbone, num_classes, head_optimizer, seed=0):
        super().__init__()
        self.backbone = backbone
        self.head = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=seed),
            dtype="float32",
            name="head",
        )
        self.head_optimizer = head_optimizer
        self.loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.loss_tracker = keras.metrics.Mean("loss")

    def call(self, images, training=None):
        """Logits, float32 `[B, num_classes]`."""
        outputs = self.backbone(images, training=training)
        return self.head(read_feature(outputs, "avgpool"))

    def train_step(self, batch):
        images, labels = batch
        groups = (self.backbone.trainable_variables, self.head.trainable_variables)
        with tf.GradientTape() as tape:
            loss = self.loss_fn(labels, self(images, training=True))
        gradients = tape.gradient(loss, groups)
        self.optimizer.apply(gradients[0], groups[0])
        self.head_optimizer.apply(gradients[1], groups[1])
        # Keras divides a loss by the number of replicas, since it adds up gradients.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_tracker.update_state(loss)
        return {"loss": loss}


def accuracy(model: keras.Model, data, transform: Callable | None) -> Accuracy:
    """Top-1 and top-5 accuracy of a model that returns logits `[B, num_classes]`.

    A trial that diverged gives logits that are not finite. It counts as 0 percent, with
    a warning.
    """
    try:
        # Without a cache: the logits of these weights are used only here.
        found = extract_all(model, data, ["avgpool"], transform, cache_dir=None)
    except NonfiniteFeatures:
        _logger.warning(
            "finetune: a trial diverged, and counts as 0 percent: its logits of %s are "
            "not finite.",
            data.name,
        )
        return Accuracy(0.0, 0.0)
    logits, labels = found["avgpool"]
    return Accuracy(*(top_accuracy(logits, labels, top) for top in (1, 5)))


def _length(data, batch_size, epochs):
    # Schedules that change once per epoch need epochs of whole batches.
    return RunLength(data.num_examples, batch_size, epochs, last_batch="pad")


def _tuning_parts(train_data, tuning_data, validation_data, seed):
    """The data to train on and to evaluate on for the choice of a point."""
    if validation_data is not None:
        return tuning_data or train_data, validation_data
    _require(tuning_data is None, "validation_data", "given with tuning_data", None)
    places, held_out = split_places(train_data.labels(), seed)
    return (
        train_data.subset(places, f"four fifths of {train_data.name}"),
        train_data.subset(held_out, f"a fifth of {train_data.name}"),
    )


def _grid(epochs, base_learning_rates, head_multipliers):
    for name, values, kind, numbers in (
        ("epochs", epochs, int, "ints"),
        ("base_learning_rates", base_learning_rates, Real, "numbers"),
        ("head_multipliers", head_multipliers, Real, "numbers"),
    ):
        listed = values if isinstance(values, (list, tuple)) and values else [0]
        positive = all(isinstance(value, kind) and value > 0 for value in listed)
        _require(positive, name, f"a list of positive {numbers}", values)
    axes = itertools.product(epochs, base_learning_rates, head_multipliers)
    return [GridPoint(*values) for values in axes]


def _check_recipe(recipe, trained_on):
    for name in ("optimizer_fn", "learning_rate_fn"):
        function = getattr(recipe, name)
        _require(callable(function), name, "a function, without parentheses", function)
    for data in trained_on:
        _length(data, recipe.batch_size, epochs=1)
    check_batch_size("finetune", recipe.batch_size)


def _check_backbone(backbone, train_data):
    shape = getattr(trainable_copy(backbone), "input_shape", None)
    channels = shape[-1] if isinstance(shape, tuple) else train_data.channels
    rule = f"of the backbone's {channels} channels"
    received = f"{train_data.channels} in {train_data.name}"
    _require(train_data.channels == channels, "train_data", rule, received)


def _check_sizes(transform, evaluated):
    for name, data in evaluated.items():
        same_size = transform is not None or data.image_size is not None
        _require(same_size, name, "of one size without a transform", data.name)


def _require(holds, argument, rule, received):
    if not holds:
        raise ValueError(f"finetune.{argument} must be {rule}. Received: {received!r}")
