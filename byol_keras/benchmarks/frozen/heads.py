"""Heads on a frozen backbone, trained side by side in one pass over the data.

The features are computed outside of the tape and shared; each head has its own loss and
its own optimizer, so that training several heads is the same as training each alone.
Everything is made in the scope of the current `tf.distribute` strategy.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from byol_keras.benchmarks.frozen.features import Features, extract_all, read_feature
from byol_keras.benchmarks.progress import TrainingProgress
from byol_keras.data.sources import untuned
from byol_keras.schedules import RunLength

_SCORE_BATCH = 1024


class Head(NamedTuple):
    """A classifier of one feature, and the optimizer that trains it.

    Args:
        feature: name of what the classifier reads; see `features.read_feature`.
        classifier: built `keras.Model`, float32 `[B, D]` -> logits `[B, classes]`.
        optimizer: Keras optimizer that no other head uses.
    """

    feature: str
    classifier: keras.Model
    optimizer: keras.optimizers.Optimizer

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits float32 `[N, classes]` of features `[N, D]`, in inference mode."""
        blocks = [
            self.classifier(features[start : start + _SCORE_BATCH], training=False)
            for start in range(0, len(features), _SCORE_BATCH)
        ]
        return np.concatenate(blocks)


class Feed(NamedTuple):
    """What heads are trained on.

    Args:
        batches: endless `tf.data.Dataset` of (inputs, labels int64 `[B]`).
        read: inputs -> dict of features, float32 `[B, D]` by name.
        sizes: D by name.
    """

    batches: tf.data.Dataset
    read: Callable
    sizes: dict[str, int]


def training_feed(
    backbone: keras.Model,
    data,
    features: Sequence[str],
    length: RunLength,
    seed: int,
    train_view=None,
    transform: Callable | None = None,
) -> Feed:
    """Augmented images, or without a `train_view` features that are computed once.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`. It
            runs in inference mode only.
        data: `image_data.ImageData` with labels.
        features: names; see `features.read_feature`.
        length: of the run; its passes are filled up as its `last_batch` says.
        seed: int. Of the order of the images and of the augmentations.
        train_view: `augmented_view.AugmentedView`, or None.
        transform: of the images whose features are computed once.
    """
    if train_view is None:
        found = extract_all(backbone, data, features, transform)
        sizes = {name: values.features.shape[1] for name, values in found.items()}
        return Feed(_frozen_batches(found, length, seed), lambda inputs: inputs, sizes)

    def read(images):
        outputs = backbone(images, training=False)
        return {name: read_feature(outputs, name) for name in features}

    batches = train_view.dataset(
        data, length.batch_size, seed, pass_length=length.pass_length
    )
    traced = tf.function(read).get_concrete_function(batches.element_spec[0])
    shapes = traced.structured_outputs
    return Feed(batches, read, {name: shapes[name].shape[-1] for name in features})


def _frozen_batches(found: Mapping[str, Features], length, seed):
    labels = next(iter(found.values())).labels

    def batches():
        for places in shuffled_places(
            len(labels), length.batch_size, seed, length.pass_length
        ):
            rows = {name: values.features[places] for name, values in found.items()}
            yield rows, labels[places]

    size = length.batch_size
    spec = {
        name: tf.TensorSpec((size, values.features.shape[1]), tf.float32)
        for name, values in found.items()
    }
    signature = (spec, tf.TensorSpec((size,), tf.int64))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(untuned())


def shuffled_places(
    num_examples: int, batch_size: int, seed: int, pass_length: int
) -> Iterator[np.ndarray]:
    """Endless batches of places, int `[batch_size]`: every pass in an order of its own.

    Args:
        num_examples: int.
        batch_size: int. A batch may go on with the next pass.
        seed: int, not negative. Another seed gives other orders.
        pass_length: int. What a pass has beyond `num_examples` are its own first places
            again.
    """
    rest = np.empty(0, np.int64)
    for number in itertools.count():
        order = np.random.default_rng((seed, number)).permutation(num_examples)
        rest = np.concatenate([rest, np.resize(order, pass_length)])
        while len(rest) >= batch_size:
            yield rest[:batch_size]
            rest = rest[batch_size:]


class Heads(keras.Model):
    """Independent heads as one model that `fit` trains on the batches of a `Feed`.

    Args:
        heads: list of `Head`.
        read: inputs -> dict of features; see `Feed`.
    """

    def __init__(self, heads: Sequence[Head], read: Callable):
        super().__init__()
        self.heads = list(heads)
        self.read = read
        self.loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for head in self.heads:
            head.optimizer.build(head.classifier.trainable_variables)
        # Each head has its own optimizer; XLA would take long to compile for nothing.
        self.compile(optimizer=None, jit_compile=False)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Every head is built; Keras's own would call this model, which has no output.
        pass

    def train_step(self, batch):
        inputs, labels = batch
        features = self.read(inputs)
        losses = [
            self._train_head(head, features[head.feature], labels)
            for head in self.heads
        ]
        # A Keras loss is divided by the number of replicas, over which logs are means.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return {"loss": ops.mean(ops.stack(losses)) * replicas}

    def _train_head(self, head, features, labels):
        variables = head.classifier.trainable_variables
        with tf.GradientTape() as tape:
            logits = head.classifier(features, training=True)
            loss = self.loss_fn(labels, logits)
        head.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss


def train_heads(
    heads: Sequence[Head],
    feed: Feed,
    length: RunLength,
    title: str,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Trains the heads in place; the backbone stays as it is.

    Args:
        heads: list of `Head`, made in the scope of the current strategy.
        feed: see `training_feed`.
        length: of the run, as the feed was made for.
        title: str. What the line of progress is called.
        after_epoch: called after the last step of every epoch.
    """
    with TrainingProgress(title, length.total_steps, length=length) as shown:
        callbacks: list[keras.callbacks.Callback] = [shown]
        if after_epoch is not None:
            callbacks.append(_AfterEpochs(length, after_epoch))
        # For Keras the run is one epoch: where batches go on over the ends of passes,
        # the steps of a pass are not a whole number.
        Heads(heads, feed.read).fit(
            feed.batches,
            steps_per_epoch=length.total_steps,
            shuffle=False,  # the batches have their own, reproducible order
            verbose=0,
            callbacks=callbacks,
        )


class _AfterEpochs(keras.callbacks.Callback):
    """Calls a function after the last step of every epoch."""

    async_safe = False

    def __init__(self, length, function):
        super().__init__()
        self.last_steps = {length.step_at_epoch(i + 1) for i in range(length.epochs)}
        self.function = function
        self.step = 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step in self.last_steps:
            self.function()
