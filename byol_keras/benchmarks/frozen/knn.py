"""Weighted k-nearest-neighbor classification of frozen features."""

import math
from collections.abc import Callable, Iterator, Sequence

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import Features, extract_features
from byol_keras.benchmarks.splits import check_splits
from byol_keras.runtime.argument_checks import is_positive_int

# exp(600) is far from the largest float64, and exp(-700) is not 0.
_LARGEST_EXPONENT, _SMALLEST_EXPONENT = 600.0, -700.0
# Cosines of equal features differ by less. Some processors, such as those without
# AVX-512, add the products of a row in an order that depends on its place.
_ROUNDING = 1e-6
# Examples in a block of similarities.
_TRAIN_BLOCK, _TEST_BLOCK = 65_536, 1_024


@gin.register(module="byol_keras")
def knn(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    k: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    transform: Callable | None = None,
    feature: str = "avgpool",
    batch_size: int = 256,
) -> dict[str, float]:
    """Accuracy of a vote among the k most similar training images.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        train_data, test_data: `ImageData` with labels.
        k: numbers of neighbors.
        temperature: float, T. A neighbor of cosine similarity s votes exp(s / T).
        transform: see `features.extract_all`.
        feature: output of the backbone to use; see `features.read_feature`.
        batch_size: int. Images per forward pass.

    Returns:
        `knn/top1_k<k>` and `knn/top5_k<k>` for every k, in percent. They do not depend
        on the order of images or classes: training images that are equally similar
        share the votes that are left for them, and see `accuracy.top_accuracy`.

    Raises:
        ValueError: unless every k is between 1 and the number of training images, and
            `temperature` is positive.

    Source: mmselfsup 0.x, `knn_classifier.py` (protocol of arXiv 1805.01978).
    Deviation: the reference decides ties by the order of the training images, and of
        the classes.
    """
    _check_arguments(k, temperature, train_data.num_examples)
    check_splits("knn", train_data, test_data=test_data)
    read = {"transform": transform, "feature": feature, "batch_size": batch_size}
    train = extract_features(backbone, train_data, **read)
    _check_arguments(k, temperature, len(train.labels))  # without unreadable images
    test = extract_features(backbone, test_data, **read)
    num_classes, results = len(train_data.class_names), {}
    for count, votes in votes_of_nearest(
        train, test.features, k, num_classes, temperature
    ):
        for top in (1, 5):
            name = f"knn/top{top}_k{count}"
            results[name] = top_accuracy(
                votes, test.labels, min(top, count), rounding_of_votes(temperature)
            )
    return results


def votes_of_nearest(
    train: Features,
    test_features: np.ndarray,
    k: Sequence[int],
    num_classes: int,
    temperature: float,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each k with the votes of the k nearest neighbors, `[M, num_classes]`.

    They do not depend on the order of the training examples; see `shared_neighbors`.
    """
    # One more, which shows whether the last of k has a tie.
    most = min(max(k) + 1, len(train.labels))
    similarities, labels = nearest_neighbors(*train, test_features, most)
    for count in k:
        near = similarities[:, :count], labels[:, :count]
        votes = class_votes(*near, num_classes, temperature)
        least = similarities[:, count - 1 : count]
        is_tied = similarities[:, count:] >= least - _ROUNDING
        (tied,) = np.nonzero(is_tied.any(axis=1))
        if len(tied):
            *near, parts = shared_neighbors(
                train, test_features[tied], count, num_classes
            )
            votes[tied] = class_votes(*near, num_classes, temperature, parts)
        yield count, votes


def rounding_of_votes(temperature: float) -> float:
    """Largest relative difference of votes that are equal without rounding."""
    return 2.0 * _ROUNDING / temperature


def _check_arguments(k, temperature, num_examples):
    counts = k if isinstance(k, (list, tuple)) and k else [0]
    if not all(is_positive_int(n) and n <= num_examples for n in counts):
        raise ValueError(
            f"knn.k must be a list of ints from 1 to the {num_examples} training "
            f"images. Received: {k!r}"
        )
    if not (isinstance(temperature, (int, float)) and temperature > 0):
        raise ValueError(f"knn.temperature must be positive. Received: {temperature!r}")


def nearest_neighbors(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    k: int,
    train_block: int = _TRAIN_BLOCK,
    test_block: int = _TEST_BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """The k training examples with the largest cosine similarity to each test example.

    Besides the features, memory holds one block of similarities at a time, for any
    number of training examples.

    Args:
        train_features: float32 `[N, D]`.
        train_labels: int64 `[N]`.
        test_features: float32 `[M, D]`.
        k: int, at most N.
        train_block, test_block: int. Size of a block.

    Returns:
        Similarities float32 `[M, k]`, in descending order, and labels int64 `[M, k]`.
        Ties are in the order of the training examples.
    """
    best = {}
    for place, cosines, labels in _blocks_of_similarities(
        train_features, train_labels, test_features, train_block, test_block
    ):
        found = tf.math.top_k(cosines, min(k, len(labels)))
        found = found.values, tf.gather(labels, found.indices)
        best[place] = _merge(best[place], found, k) if place in best else found
    similarities, labels = zip(*best.values(), strict=True)
    return np.concatenate(similarities), np.concatenate(labels)


def shared_neighbors(
    train: Features, test_features: np.ndarray, k: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest neighbors where several are as similar as the last of them.

    Those share the places that are left: each counts as a part of a neighbor.

    Returns:
        Similarities, labels and parts `[M, k + num_classes]`, with the neighbors above
        the last similarity first, then one entry per class for all others.
    """
    near, labels = nearest_neighbors(*train, test_features, k)
    least, counts = near[:, -1:], [0] * math.ceil(len(near) / _TEST_BLOCK)
    for place, cosines, block_labels in _blocks_of_similarities(*train, test_features):
        first = place * _TEST_BLOCK
        equal = tf.abs(cosines - least[first : first + len(cosines)]) <= _ROUNDING
        counts[place] += tf.math.unsorted_segment_sum(
            tf.transpose(tf.cast(equal, tf.int32)), block_labels, num_classes
        )
    counts = np.concatenate(counts, axis=1).T
    is_above = near > least + _ROUNDING
    rest = k - is_above.sum(axis=1, keepdims=True)
    parts = [is_above, rest * counts / counts.sum(axis=1, keepdims=True)]
    classes = np.broadcast_to(np.arange(num_classes), counts.shape)
    return (
        np.hstack([near, np.broadcast_to(least, counts.shape)]),
        np.hstack([labels, classes]),
        np.hstack(parts),
    )


def _blocks_of_similarities(
    train_features, train_labels, test_features, train_block=None, test_block=None
):
    """Yields the place of a test block, its cosines with a training block, and labels.

    Equal calls yield equal numbers, to the last bit.
    """
    train_block, test_block = train_block or _TRAIN_BLOCK, test_block or _TEST_BLOCK
    blocks = range(0, len(test_features), test_block)
    queries = [_unit(test_features[first : first + test_block]) for first in blocks]
    for first in range(0, len(train_features), train_block):
        block = _unit(train_features[first : first + train_block])
        labels = train_labels[first : first + train_block]
        for place, query in enumerate(queries):
            yield place, tf.matmul(query, block, transpose_b=True), labels


def _unit(features):
    # A power of two keeps the digits, and squares neither overflow nor underflow.
    _, exponents = np.frexp(np.abs(features).max(axis=1, keepdims=True))
    return tf.math.l2_normalize(
        tf.constant(np.ldexp(features, -exponents), tf.float32), axis=1, epsilon=1e-24
    )


def _merge(best, found, k):
    similarities, labels = (
        tf.concat(pair, axis=1) for pair in zip(best, found, strict=True)
    )
    top = tf.math.top_k(similarities, min(k, similarities.shape[1]))
    return top.values, tf.gather(labels, top.indices, batch_dims=1)


def class_votes(
    similarities: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    temperature: float,
    parts: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Sum of exp(similarity / temperature) over the neighbors of each class.

    If the exponents of a row would overflow or underflow, all votes of the row are
    scaled by one factor, which keeps the order of its classes.

    Args:
        similarities: `[M, k]`.
        labels: int `[M, k]`.
        parts: `[M, k]` in 0..1, or one number. Part of a vote that a neighbor has.

    Returns:
        float64 `[M, num_classes]`, above 0 for each class of a neighbor.
    """
    exponents = similarities.astype(np.float64) / temperature
    largest = exponents.max(axis=1, keepdims=True)
    exponents -= largest - np.clip(largest, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    weights = parts * np.exp(np.maximum(exponents, _SMALLEST_EXPONENT))
    votes = np.zeros((len(labels), num_classes))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), weights)
    return votes
