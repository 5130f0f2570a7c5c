"""Several processes that train as one: who writes, what each reads, who has left."""

import dataclasses
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# What the others end with when one of them has left.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
# A worker that leaves sooner may end the others with an error of the network.
LINGER_SECONDS = 3.0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, logs and exports."""
    return strategy.extended.should_checkpoint


def is_for_chief(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is for the chief only: it says so by `chief_only = True`."""
    return getattr(callback, "chief_only", False)


def are_several(strategy: tf.distribute.Strategy) -> bool:
    """Whether the replicas are in more than one process."""
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and bool(strategy.cluster_resolver.cluster_spec().as_dict())


def require_same(strategy: tf.distribute.Strategy, **values: object) -> None:
    """Waits for all workers, and refuses values that are not the same on all of them.

    Args:
        strategy: of whatever kind; one process agrees with itself.
        **values: anything that JSON knows.

    Raises:
        ValueError: on every worker, with the names of what differs.
    """
    if not are_several(strategy):
        return
    sums = [zlib.crc32(json.dumps(value).encode()) for value in values.values()]
    mine = tf.constant([sums], tf.int64)
    of_all = strategy.gather(strategy.run(lambda: tf.identity(mine)), axis=0).numpy()
    wrong = [
        name
        for name, column in zip(values, of_all.T, strict=True)
        if len({*column}) > 1
    ]
    if wrong:
        raise ValueError(
            f"model_dir, configuration and data must be the same for all workers. "
            f"Received: another {', '.join(wrong)} on some; here {values}"
        )


def linger(strategy: tf.distribute.Strategy) -> None:
    """Stays for what other workers are still receiving of the last exchange."""
    if are_several(strategy):
        time.sleep(LINGER_SECONDS)


def value_here(variable: keras.Variable) -> np.ndarray:
    """What a variable holds, without asking other workers, who may be elsewhere.

    Replicas hold parts of what is summed when it is read, as the total of a metric: the
    parts of other workers are taken to be like those here. All else they hold alike.
    """
    value = variable.value
    is_distributed = isinstance(value, tf.distribute.DistributedValues)
    on_read = tf.VariableSynchronization.ON_READ
    if not is_distributed or value.synchronization != on_read:
        return keras.ops.convert_to_numpy(variable)
    strategy = value.distribute_strategy
    parts = [part.numpy() for part in strategy.experimental_local_results(value)]
    others = strategy.num_replicas_in_sync / len(parts)
    return (np.sum(parts, axis=0) * others).astype(parts[0].dtype)


@dataclasses.dataclass(frozen=True)
class Share:
    """The examples that one of several workers trains on; a source of `ImageData`.

    Every batch of the run is cut into as many parts as there are workers. The others'
    examples are read as they are stored, but neither decoded nor augmented.

    Args:
        source: of the whole data.
        batch_size: int. Images of one step of the run.
        workers: int. How many there are; divides `batch_size`.
        worker: int. The place of this one.
    """

    source: Any
    batch_size: int
    workers: int
    worker: int

    def stream(self, seed, start, pass_length, shuffle):
        part = self.batch_size // self.workers

        def is_mine(place, _):
            return place % self.batch_size // part == self.worker

        elements = self.source.stream(seed, start, pass_length, shuffle).enumerate()
        return elements.filter(is_mine).map(lambda _, element: element)


def distribute(
    strategy: tf.distribute.Strategy, data: Any, batch_size: int, make: Callable
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Batches for `fit`, of which several workers make a part each.

    Args:
        strategy: of whatever kind.
        data: `image_data.ImageData`.
        batch_size: int. Images of one step of the run.
        make: (data, batch size) -> `tf.data.Dataset` of batches of that size.
    """
    if not are_several(strategy):
        return make(data, batch_size)

    def make_part(context):
        share = Share(
            data.source,
            batch_size,
            context.num_input_pipelines,
            context.input_pipeline_id,
        )
        part = dataclasses.replace(data, source=share)
        return make(part, context.get_per_replica_batch_size(batch_size))

    batches = strategy.distribute_datasets_from_function(make_part)
    # Keras asks for it, and before TensorFlow 2.21 this kind of dataset does not know.
    if not hasattr(type(batches), "cardinality"):
        batches.cardinality = tf.data.INFINITE_CARDINALITY
    return batches
