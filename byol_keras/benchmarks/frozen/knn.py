"""Weighted k-nearest-neighbor classification of frozen features."""

from collections.abc import Callable, Sequence

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import extract_features
from byol_keras.benchmarks.splits import check_splits
from byol_keras.runtime.argument_checks import is_positive_int

# exp(600) is far from the largest float64, and exp(-700) is not 0.
_LARGEST_EXPONENT, _SMALLEST_EXPONENT = 600.0, -700.0


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
        `knn/top1_k<k>` and `knn/top5_k<k>` for every k, in percent.

    Raises:
        ValueError: unless every k is between 1 and the number of training images, and
            `temperature` is positive.

    Source: mmselfsup 0.x, `knn_classifier.py` (protocol of arXiv 1805.01978).
    """
    _check_arguments(k, temperature, train_data.num_examples)
    check_splits("knn", train_data, test_data=test_data)
    read = {"transform": transform, "feature": feature, "batch_size": batch_size}
    train = extract_features(backbone, train_data, **read)
    _check_arguments(k, temperature, len(train.labels))  # without unreadable images
    test = extract_features(backbone, test_data, **read)
    similarities, labels = nearest_neighbors(
        train.features, train.labels, test.features, max(k)
    )
    num_classes = len(train_data.class_names)
    results = {}
    for count in k:
        votes = class_votes(
            similarities[:, :count], labels[:, :count], num_classes, temperature
        )
        for top in (1, 5):
            name = f"knn/top{top}_k{count}"
            results[name] = top_accuracy(votes, test.labels, min(top, count))
    return results


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
    train_block: int = 65_536,
    test_block: int = 1_024,
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
    blocks = range(0, len(test_features), test_block)
    queries = [_unit(test_features[first : first + test_block]) for first in blocks]
    best = [None] * len(queries)
    for first in range(0, len(train_features), train_block):
        block = _unit(train_features[first : first + train_block])
        block_labels = train_labels[first : first + train_block]
        for place, query in enumerate(queries):
            found = _most_similar(query, block, block_labels, min(k, len(block)))
            best[place] = _merge(best[place], found, k)
    similarities, labels = zip(*best, strict=True)
    return np.concatenate(similarities), np.concatenate(labels)


def _unit(features):
    # A power of two keeps the digits, and squares neither overflow nor underflow.
    _, exponents = np.frexp(np.abs(features).max(axis=1, keepdims=True))
    return tf.math.l2_normalize(
        tf.constant(np.ldexp(features, -exponents), tf.float32), axis=1, epsilon=1e-24
    )


def _most_similar(queries, block, labels, k):
    found = tf.math.top_k(tf.matmul(queries, block, transpose_b=True), k)
    return found.values, tf.gather(labels, found.indices)


def _merge(best, found, k):
    if best is None:
        return found
    similarities, labels = (
        tf.concat(pair, axis=1) for pair in zip(best, found, strict=True)
    )
    top = tf.math.top_k(similarities, min(k, similarities.shape[1]))
    return top.values, tf.gather(labels, top.indices, batch_dims=1)


def class_votes(
    similarities: np.ndarray, labels: np.ndarray, num_classes: int, temperature: float
) -> np.ndarray:
    """Sum of exp(similarity / temperature) over the neighbors of each class.

    If the exponents of a row would overflow or underflow, all votes of the row are
    scaled by one factor, which keeps the order of its classes.

    Args:
        similarities: `[M, k]`.
        labels: int `[M, k]`.

    Returns:
        float64 `[M, num_classes]`, above 0 for each class of a neighbor.
    """
    exponents = similarities.astype(np.float64) / temperature
    largest = exponents.max(axis=1, keepdims=True)
    exponents -= largest - np.clip(largest, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    weights = np.exp(np.maximum(exponents, _SMALLEST_EXPONENT))
    votes = np.zeros((len(labels), num_classes))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), weights)
    return votes
