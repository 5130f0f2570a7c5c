"""What training a benchmark's model needs of the replicas of the current strategy."""

import tensorflow as tf


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
