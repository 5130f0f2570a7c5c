"""Fine-tuning: all weights of a backbone, trained on some or all of the labels."""

import itertools
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import gin
import keras
import tensorflow as tf

from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import extract_all, read_feature
from byol_keras.benchmarks.precision import check_batch_size
from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.benchmarks.splits import check_splits, split_places
from byol_keras.benchmarks.trainable import trainable_copy
from byol_keras.schedules import RunLength


class GridPoint(NamedTuple):
    """What one trial is trained with, besides what all trials share."""

    epochs: int
    base_learning_rate: float
    head_multiplier: float


class Recipe(NamedTuple):
    """What all trials share; see `finetune` for the fields."""

    train_view: Any
    batch_size: int
    optimizer_fn: Callable
    learning_rate_fn: Callable
    seed: int


class Accuracy(NamedTuple):
    """Percent of images whose class is the first, or among the first five."""

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
    """Accuracy after all weights were trained on labels, by the best of a grid.

    Every combination of epochs, learning rate and head multiplier is one trial, which
    starts from the weights of `backbone` and from the same fresh head on its
    `avgpool`; `backbone` itself stays as it is. A point of the grid is chosen by its
    accuracy on validation data. What was published is, in part, the best accuracy of
    the grid on the test data, which is reported too, under a name that says so.

    Args:
        backbone: a `keras.Model` from code or from a `.keras` file, float32
            `[B, H, W, C]` in 0..1 -> dict with `avgpool` `[B, D]`, or `[B, D]`. It is
            trained in float32 where it computes in float16.
        train_data, test_data: `image_data.ImageData` with one label per image.
        train_view: `augmented_view.AugmentedView`, made of training images.
        optimizer_fn: (learning_rate) -> Keras optimizer. Called twice per trial, for
            the backbone and for the head.
        learning_rate_fn: (run_length, base_learning_rate) -> schedule or float.
        epochs: numbers of passes over the training data.
        base_learning_rates: per 256 images.
        head_multipliers: the head's learning rate is so many times the backbone's.
        batch_size: int. Images per step, over all replicas. A pass is filled up to
            whole batches with its first images.
        transform: of validation and test images; see `features.extract_features`.
        validation_data: to choose the point on; it must share no image with the data
            that is then trained on. None: a fifth of each class of `train_data`, whose
            rest is `tuning_data`.
        tuning_data: to train on while the point is chosen. Every point is then trained
            twice, here and on `train_data`. None: `train_data` serves for both.
        seed: int. Of the head, the order of the images, the augmentations, the split.

    Returns:
        In percent: `finetune/top1` and `finetune/top5`, on test data, of the point
        chosen on validation data; `finetune/validation_top1` of that point; and
        `finetune/top1_grid_chosen_on_test`, the best of all points. And the chosen
        `finetune/epochs`, `finetune/base_learning_rate`, `finetune/head_multiplier`.

    Raises:
        ValueError: for a backbone that has no weights to train or cannot be copied, as
            one from a SavedModel; for a number out of its range; for data without one
            label per image, or of other classes than `train_data`, or of other
            channels than the backbone's, or of different sizes without a `transform`.

    Source: mmselfsup 0.x, `configs/benchmarks/classification/imagenet/`, and arXiv
        2006.07733 appendix C.1; see gin/protocol/.
    """
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
        # One model where both scores are of the same training data, else two.
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
    """Trains a copy of the backbone and a fresh head: one trial.

    Args:
        backbone: see `finetune`; it is not changed.
        data: `image_data.ImageData` to train on.
        point: the trial's own settings.
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
    # On symbolic images, so that no variable is made inside the traced step.
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
    `[B]`. The optimizer given to `compile` moves the backbone.

    Args:
        backbone: `keras.Model`; see `finetune`.
        num_classes: int.
        head_optimizer: Keras optimizer that moves the head.
        seed: int. Of the head's kernel, N(0, 0.01); its bias starts at 0.
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
        # A Keras loss is divided by the number of replicas, whose gradients are added.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_tracker.update_state(loss)
        return {"loss": loss}


def accuracy(model: keras.Model, data, transform: Callable | None) -> Accuracy:
    """Top-1 and top-5 accuracy of a model that returns logits `[B, num_classes]`."""
    # Uncached: nothing later asks for the logits of these weights again.
    found = extract_all(model, data, ["avgpool"], transform, cache_dir=None)
    logits, labels = found["avgpool"]
    return Accuracy(*(top_accuracy(logits, labels, top) for top in (1, 5)))


def _length(data, batch_size, epochs):
    # Schedules that move once per epoch need epochs of whole batches.
    return RunLength(data.num_examples, batch_size, epochs, last_batch="pad")


def _tuning_parts(train_data, tuning_data, validation_data, seed):
    """What to train on and what to score on while a point is chosen."""
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
