"""The `tf.data` pipeline of views: random draws per image, and batches in parallel."""

import os

import tensorflow as tf

from byol_keras.data.sources import untuned


def uniforms_of(element: dict, seed: int, count: int) -> tf.Tensor:
    """float32 `[count]` in 0..1: the random draws of an image in a pass.

    Args:
        element: dict with `pass` and `index`, int64, as `ImageData.stream` yields.
        seed: int. Seed of the run.
        count: int. Number of draws.
    """
    key = tf.constant([seed, 0], tf.int64)
    for number in (element["pass"], element["index"]):
        key = tf.random.experimental.stateless_fold_in(key, number)
    return tf.random.stateless_uniform([count], key)


def batches(
    examples, augment, batch_size: int, part: int, ragged: bool = False
) -> tf.data.Dataset:
    """Batches of examples, augmented in parallel, a part of a batch at a time.

    Args:
        examples: endless `tf.data.Dataset`.
        augment: function of batched components -> tuple of batched components.
        batch_size: int.
        part: int, a divisor of `batch_size`. Examples that one thread augments at once.
        ragged: bool. Whether components may differ in shape: `augment` gets these as
            `tf.RaggedTensor`.
    """
    # One thread per core: more threads would evict each other's images from the caches.
    batch = examples.ragged_batch if ragged else examples.batch
    dataset = batch(part, drop_remainder=True).map(
        augment, num_parallel_calls=cores(), deterministic=True
    )
    if part < batch_size:
        dataset = dataset.batch(batch_size // part, drop_remainder=True)
        dataset = dataset.map(
            lambda *parts: tuple(
                tf.reshape(x, [batch_size, *x.shape[2:]]) for x in parts
            )
        )
    options = reproducible()
    options.threading.private_threadpool_size = cores()
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def cores() -> int:
    """Number of CPU cores that this process may use, and of threads that augment."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def reproducible() -> tf.data.Options:
    """Options of a pipeline whose order does not depend on parallelism."""
    options = untuned()
    options.deterministic = True
    # Workers share the images of a global batch; there may be fewer files than workers.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options
