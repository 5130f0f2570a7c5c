"""Random choices of anchors and proposals, as pure functions of a key."""

import tensorflow as tf


def balanced_choice(
    positive: tf.Tensor,
    negative: tf.Tensor,
    count: int,
    max_positive: int,
    key: tf.Tensor,
) -> tf.Tensor:
    """A random choice of candidates: positive ones up to a limit, then negative ones.

    Args:
        positive, negative: bool `[N]`. The two kinds of candidates.
        count: int. Number of candidates to choose. All are chosen if there are fewer.
        max_positive: int. Largest number of positive ones.
        key: int `[2]`. Equal keys give equal choices, in every process.

    Returns:
        bool `[N]`.

    Source: torchvision and mmdetection, random samplers of their two-stage detectors.
    """
    draws = tf.random.stateless_uniform(positive.shape, key)
    positives = _first(positive, draws, max_positive, max_positive)
    missing = count - tf.reduce_sum(tf.cast(positives, tf.int32))
    return positives | _first(negative, draws, count, missing)


def _first(candidates, draws, most, count):
    """The `count` candidates with the largest draws, of `most` at the most."""
    most = min(most, candidates.shape[0])
    found, places = tf.math.top_k(tf.where(candidates, draws, -1.0), most)
    chosen = (found >= 0.0) & (tf.range(most) < count)
    marks = tf.scatter_nd(
        places[:, tf.newaxis], tf.cast(chosen, tf.int32), candidates.shape
    )
    return marks > 0
