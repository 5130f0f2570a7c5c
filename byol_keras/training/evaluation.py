"""Evaluation during training: benchmarks between epochs, and an online linear probe.

Both only read the online backbone. Weights, statistics and optimizer at the end of
training are bit for bit those of a run without them.
"""

import contextlib
import functools
import random

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.data.reach import OutOfReach
from byol_keras.data.unreadable import TooManyBadImages
from byol_keras.runtime.argument_checks import check_positive_ints
from byol_keras.runtime.errors import lines_of


@gin.register(module="byol_keras")
class BenchmarkEachEpochs(keras.callbacks.Callback):
    """Runs benchmarks on the online backbone after every n-th epoch and the last.

    Adds the results to the logs of the epoch under their own keys, such as
    `knn/top1_k20`, for `metrics.jsonl`, TensorBoard and the progress bar. In gin, for
    the quickstart:

        train.callbacks = [@BenchmarkEachEpochs()]
        BenchmarkEachEpochs.benchmarks = [@knn]
        knn.train_data = @train/clothing_small()
        knn.test_data = @test/clothing_small()
        knn.transform = @resize_center_crop
        resize_center_crop.resize = 32
        resize_center_crop.size = 32
        train/clothing_small.split = "train"
        test/clothing_small.split = "test"

    Args:
        benchmarks: list of functions `(backbone) -> dict[str, float]`.
        every_epochs: int. Epochs between two evaluations, at least 1.

    Raises:
        ValueError: if `benchmarks` is not a non-empty list of functions or
            `every_epochs` is not a positive int; and at the end of an epoch if a
            result has the key of another result or of a logged quantity.
    """

    async_safe = False
    stateless = True
    chief_only = True

    def __init__(self, benchmarks, every_epochs=1):
        super().__init__()
        _check_benchmarks(benchmarks)
        check_positive_ints(every_epochs=every_epochs)
        self.benchmarks = list(benchmarks)
        self.every_epochs = every_epochs

    def on_epoch_end(self, epoch, logs=None):
        if not (self._is_last(epoch) or (epoch + 1) % self.every_epochs == 0):
            return
        logs = {} if logs is None else logs
        with _same_random_state():
            for function in self.benchmarks:
                with _named(function, epoch):
                    results = function(self.model.online.backbone)
                _check_new_keys(results, logs)
                logs.update(results)

    def _is_last(self, epoch):
        return self.model.stop_training or epoch + 1 == self.params["epochs"]


class EvaluationError(ValueError):
    """A benchmark cannot be run, such as where its data are gone."""


@contextlib.contextmanager
def _named(function, epoch):
    """Names the benchmark in an error that its arguments or its data cause."""
    try:
        yield
    except (TooManyBadImages, OutOfReach):
        raise
    except (ValueError, OSError) as error:
        name = getattr(function, "__name__", repr(function))
        (line, *_) = lines_of(error)
        raise EvaluationError(f"{name} after epoch {epoch + 1}: {line}") from error


@contextlib.contextmanager
def _same_random_state():
    """Restores the global generators of Python and NumPy.

    Keras draws the seeds of layers without a seed from Python's generator.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@gin.register(module="byol_keras")
class OnlineProbe(keras.callbacks.Callback):
    """Trains a linear classifier on the online representation, during BYOL training.

    After a BYOL step, the probe reads one labelled batch of its own, computes its
    representation in inference mode, and takes one step of Adam on the cross-entropy.
    No gradient reaches the backbone. The state of the probe is part of the checkpoint.

    Logs: `probe/loss` and `probe/top1` (percent), of each batch before the probe learns
        from it, averaged over the epoch so far; as tensors, so that no step waits for
        the device, and as floats at the end of the epoch.

    Under a strategy of `tf.distribute` the replicas share the batch.

    Args:
        data: `ImageData` with labels.
        view: optional `AugmentedView`. None uses the images as they are stored, which
            requires one size for all.
        batch_size: int. Images per step of the probe.
        learning_rate: float. Of Adam. The default comes from short runs on 64 and on
            2048 features of Fashion-MNIST.
        seed: int. Determines the order of the data and the augmentations.
        every_steps: int. BYOL steps between two steps of the probe, at least 1.

    Raises:
        ValueError: for data without one label per image; for images of different sizes
            without a view; for a number out of range; before the first step, for images
            of another shape than the backbone's input, and for a batch size that the
            number of replicas does not divide.

    Source: DeepMind's `byol/byol_experiment.py`, whose classifier reads the same.
    Deviation: theirs reads the first view's batch in training mode and shares BYOL's
        optimizer.
    """

    async_safe = False

    def __init__(
        self,
        data,
        view=None,
        batch_size=256,
        learning_rate=0.01,
        seed=0,
        every_steps=1,
    ):
        super().__init__()
        check_positive_ints(batch_size=batch_size, every_steps=every_steps)
        if not (isinstance(learning_rate, (int, float)) and learning_rate > 0):
            raise ValueError(
                f"learning_rate must be a positive number. Received: {learning_rate!r}"
            )
        self.data = data
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.every_steps = every_steps
        self._batches_from = functools.partial(
            _labelled_batches, data, view, batch_size, seed
        )
        self.dataset = self._batches_from(start=0)

    def set_model(self, model):
        super().set_model(model)
        expected = getattr(model.online.backbone, "input_shape", None)
        shape = self.dataset.element_spec[0].shape
        if isinstance(expected, tuple) and not shape.is_compatible_with(expected):
            raise ValueError(
                f"data of OnlineProbe must have the backbone's shape {expected}. "
                f"Received: {tuple(shape)} from {self.data.name}"
            )
        replicas = model.distribute_strategy.num_replicas_in_sync
        if self.batch_size % replicas:
            raise ValueError(
                "batch_size of OnlineProbe must be divisible by the number of replicas,"
                f" {replicas}. Received: {self.batch_size}"
            )

    def on_train_begin(self, logs=None):
        strategy = self.model.distribute_strategy
        with strategy.scope():
            self._classifier = keras.layers.Dense(
                len(self.data.class_names),
                # The loss starts at log(classes), and no random number is drawn.
                kernel_initializer="zeros",
                dtype="float32",
                name="probe",
            )
            shape = self.dataset.element_spec[0].shape
            h = self.model.online.represent(keras.KerasTensor(shape, "float32"))
            self._classifier.build(h.shape)
            self._optimizer = keras.optimizers.Adam(self.learning_rate)
            self._optimizer.build(self._classifier.trainable_variables)
        self._learn = tf.function(self._learn_from_batch)
        self._batches = None
        self._step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._sums, self._count = {}, 0

    def save_own_variables(self, store):
        """Writes the state of the probe into a store, for `Checkpoints`."""
        for place, variable in enumerate(self._variables()):
            store[f"{place:04d}"] = variable
        store |= {"step": self._step, "count": self._count}
        store |= {f"sum/{name}": total for name, total in self._sums.items()}

    def load_own_variables(self, store):
        """Restores the state that `save_own_variables` has written."""
        for place, variable in enumerate(self._variables()):
            variable.assign(store[f"{place:04d}"])
        self._step, self._count = int(store["step"]), int(store["count"])
        self._sums = {
            name.removeprefix("sum/"): tf.constant(total)
            for name, total in store.items()
            if name.startswith("sum/")
        }

    def _variables(self):
        return [*self._classifier.variables, *self._optimizer.variables]

    def _next_batch(self):
        if self._batches is None:
            taken = (self._step - 1) // self.every_steps * self.batch_size
            dataset = self.dataset if not taken else self._batches_from(start=taken)
            strategy = self.model.distribute_strategy
            self._batches = iter(strategy.experimental_distribute_dataset(dataset))
        return next(self._batches)

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self._step % self.every_steps == 0:
            with self.model.distribute_strategy.scope():
                values = self._learn(self._next_batch())
            for name, value in values.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            self._count += 1
        if logs is not None:
            logs.update(self._means())

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update({name: float(mean) for name, mean in self._means().items()})
        self._sums, self._count = {}, 0

    def _means(self):
        """Scalar tensors; empty before the first step of the probe in an epoch."""
        return {name: total / self._count for name, total in self._sums.items()}

    def _learn_from_batch(self, batch):
        strategy = self.model.distribute_strategy
        values = strategy.run(self._learn_on_replica, args=batch)
        return {
            name: strategy.reduce("MEAN", value, axis=None)
            for name, value in values.items()
        }

    def _learn_on_replica(self, images, labels):
        """One step of the probe; float32 scalars of the batch before the step."""
        # Outside of the tape, so that no gradient reaches the backbone.
        h = self.model.online.represent(images, training=False)
        h = tf.cast(h, tf.float32)
        variables = self._classifier.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._classifier(h)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        # Keras adds the gradients of the replicas. A step of Adam is the same for their
        # sum and their mean.
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        return {"probe/loss": loss, "probe/top1": 100.0 * tf.reduce_mean(hits)}


def _labelled_batches(data, view, batch_size, seed, start):
    """Endless batches: float32 `[B, H, W, C]` in 0..1 and int64 `[B]`."""
    if data.class_names is None:
        raise ValueError(f"data of OnlineProbe must have labels. Received: {data.name}")
    if view is not None:
        dataset = view.dataset(data, batch_size, seed, start=start)
    elif data.image_size is None:
        raise ValueError(
            f"data of different sizes need a view. Received: {data.name} without one"
        )
    else:
        dataset = _stored_images(data, batch_size, seed, start)
    if dataset.element_spec[1].shape.rank != 1:
        raise ValueError(
            "data of OnlineProbe must have one label per image. Received: several in "
            f"{data.name}"
        )
    return dataset


def _stored_images(data, batch_size, seed, start):
    def prepare(element):
        return to_float(data.decode(element["image"])), element["label"]

    dataset = data.stream(seed, start=start).map(
        prepare, num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _check_benchmarks(benchmarks):
    is_list = isinstance(benchmarks, (list, tuple)) and len(benchmarks) > 0
    if not is_list or not all(map(callable, benchmarks)):
        raise ValueError(
            "benchmarks must be a list of functions, as [@knn]. "
            f"Received: {benchmarks!r}"
        )


def _check_new_keys(results, logs):
    taken = sorted(set(results) & set(logs))
    if taken:
        raise ValueError(
            "benchmarks must return keys that are not in the logs of the epoch yet. "
            f"Received: {', '.join(taken)} again"
        )
