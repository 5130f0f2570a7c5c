"""The precision that a benchmark trains and predicts in."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@contextlib.contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """New layers compute in this precision inside, and as before afterwards.

    Args:
        policy: one of `PRECISIONS`. Weights are float32 in each of them.

    Raises:
        ValueError: if it is another one.
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
    """Raises a `ValueError` unless the replicas can share a batch.

    Args:
        name: str. Of whatever has the argument `batch_size`, for the message.
        batch_size: int. Images per step, over all replicas.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"{name}.batch_size must be divisible by the {replicas} replicas. "
            f"Received: {batch_size!r}"
        )
