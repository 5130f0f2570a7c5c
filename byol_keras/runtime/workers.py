"""Training in several processes: roles, shares of a batch, agreement, lost workers."""

import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Errors of the other workers when one worker has left.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
# If a worker leaves sooner, the others may fail with a network error.
LINGER_SECONDS = 3.0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, logs and exports."""
    return strategy.extended.should_checkpoint


def is_for_chief(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback runs on the chief only: its class sets `chief_only = True`."""
    return getattr(callback, "chief_only", False)


def are_several(strategy: tf.distribute.Strategy) -> bool:
    """Whether the replicas are spread over several processes."""
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and bool(strategy.cluster_resolver.cluster_spec().as_dict())


def require_same(strategy: tf.distribute.Strategy, **values: object) -> None:
    """Waits for all workers and checks that they hold the same values.

    Args:
        strategy: any strategy; in a single process there is nothing to compare.
        **values: JSON types.

    Raises:
        ValueError: on every worker, with the names of the values that differ.
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
            "model_dir, configuration and data must be the same for all workers. "
            f"Received: different {', '.join(wrong)}; this worker has {values}"
        )


def linger(strategy: tf.distribute.Strategy) -> None:
    """Waits while other workers still receive data of the last exchange."""
    if are_several(strategy):
        time.sleep(LINGER_SECONDS)


def value_here(variable: keras.Variable) -> np.ndarray:
    """The value of a variable, without communication with other workers.

    Most variables have the same value on all replicas. Those that are summed when they
    are read, such as the total of a metric, have a part on each replica; the parts of
    other workers are estimated by the mean of the parts on this one.
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


def distribute(
    strategy: tf.distribute.Strategy, data: Any, batch_size: int, make: Callable
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Batches for `fit`; each of several workers produces its part of them.

    Args:
        strategy: any strategy.
        data: `ImageData`.
        batch_size: int. Images per step, over all workers.
        make: (data, batch size) -> `tf.data.Dataset` of batches of that size.
    """
    if not are_several(strategy):
        return make(data, batch_size)

    def make_part(context):
        part = data.share(
            batch_size, context.num_input_pipelines, context.input_pipeline_id
        )
        return make(part, context.get_per_replica_batch_size(batch_size))

    batches = strategy.distribute_datasets_from_function(make_part)
    # Keras reads the cardinality, which this class lacks before TensorFlow 2.21.
    if not hasattr(type(batches), "cardinality"):
        batches.cardinality = tf.data.INFINITE_CARDINALITY
    return batches
