"""Numeric precision of a benchmark's training, and batches that replicas share."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from byol_keras.runtime.devices import PRECISIONS

__all__ = ["PRECISIONS", "check_batch_size", "computing_in"]


@contextlib.contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Sets Keras's dtype policy inside the context, and restores it afterwards.

    Args:
        policy: one of `PRECISIONS`. Weights are float32 with all of them.

    Raises:
        ValueError: for any other policy.
    """
    if policy not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {policy!r}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_batch_size(name: str, batch_size: int) -> None:
    """Raises a `ValueError` unless a batch can be divided among the replicas.

    Args:
        name: str. Owner of the argument `batch_size`, for the message.
        batch_size: int. Images per step, over all replicas.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"{name}.batch_size must be divisible by the {replicas} replicas. "
            f"Received: {batch_size!r}"
        )
