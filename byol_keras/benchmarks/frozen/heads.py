"""Heads on a frozen backbone, trained together on one stream of batches.

The heads share features that are computed outside of the gradient tape. Each head has
its own loss and optimizer, so that it trains exactly as it would alone. Variables are
created in the scope of the current `tf.distribute` strategy.
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
from byol_keras.runtime.host_calls import host_iterator
from byol_keras.schedules import RunLength

_SCORE_BATCH = 1024


class Head(NamedTuple):
    """A classifier of one feature, and its optimizer.

    Args:
        feature: name of the classifier's input; see `features.read_feature`.
        classifier: built `keras.Model`, float32 `[B, D]` -> logits `[B, classes]`.
        optimizer: Keras optimizer, not shared with another head.
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
    """Training batches of heads.

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
    """The training batches: augmented images, or precomputed features.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`. It
            runs in inference mode only.
        data: `ImageData` with labels.
        features: names; see `features.read_feature`.
        length: `RunLength`, whose `last_batch` sets how a pass ends.
        seed: int. Of the order of the images and of the augmentations.
        train_view: `AugmentedView`. None computes the features once, without
            augmentation.
        transform: of images without a `train_view`; see `features.extract_all`.
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
    dataset = tf.data.Dataset.from_generator(
        host_iterator(batches), output_signature=signature
    )
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(untuned())


def shuffled_places(
    num_examples: int, batch_size: int, seed: int, pass_length: int
) -> Iterator[np.ndarray]:
    """Endless batches of places, int `[batch_size]`, reshuffled for every pass.

    Args:
        num_examples: int.
        batch_size: int. A batch can span two passes.
        seed: int, not negative. Determines the orders.
        pass_length: int. A pass longer than `num_examples` repeats its first places at
            its end.
    """
    rest = np.empty(0, np.int64)
    for number in itertools.count():
        order = np.random.default_rng((seed, number)).permutation(num_examples)
        rest = np.concatenate([rest, np.resize(order, pass_length)])
        while len(rest) >= batch_size:
            yield rest[:batch_size]
            rest = rest[batch_size:]


class Heads(keras.Model):
    """Independent heads as one model, which `fit` trains on the batches of a `Feed`.

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
        # Each head has its own optimizer. XLA would compile for long without a gain.
        self.compile(optimizer=None, jit_compile=False)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Every head is built. Keras's own version would call this model, which has no
        # output.
        pass

    def train_step(self, batch):
        inputs, labels = batch
        features = self.read(inputs)
        losses = [
            self._train_head(head, features[head.feature], labels)
            for head in self.heads
        ]
        # Keras divides a loss by the number of replicas, and averages logs over them.
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
    """Trains the heads in place, and leaves the backbone unchanged.

    Args:
        heads: list of `Head`, created in the scope of the current strategy.
        feed: see `training_feed`.
        length: the `RunLength` that the feed was made for.
        title: str. Name of the training in the progress bar.
        after_epoch: called without arguments after the last step of every epoch.
    """
    with TrainingProgress(title, length.total_steps, length=length) as shown:
        callbacks: list[keras.callbacks.Callback] = [shown]
        if after_epoch is not None:
            callbacks.append(_AfterEpochs(length, after_epoch))
        # For Keras the run is one epoch, since batches that span two passes leave no
        # whole number of steps per pass.
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
