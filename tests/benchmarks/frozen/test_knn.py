"""kNN: the published vote, and an exact search in blocks."""

import itertools
import math
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from byol_keras import data
from byol_keras.benchmarks.accuracy import top_accuracy
from byol_keras.benchmarks.frozen.features import Features
from byol_keras.benchmarks.frozen.knn import (
    class_votes,
    knn,
    nearest_neighbors,
    rounding_of_votes,
    shared_neighbors,
    votes_of_nearest,
)

T = 0.07
FIVE = [[1, 0], [0.8, 0.6], [0, 1], [-1, 0], [0.6, 0.8]]
FIVE_LABELS = [0, 0, 1, 2, 1]
ANGLES = [[math.cos(angle), math.sin(angle)] for angle in (0.0, 0.6, 0.62)]
TENTH = [math.cos(0.1), math.sin(0.1)]


def found_votes(train, labels, query, k):
    features = np.array(train, np.float32)
    queries = np.array([query], np.float32)
    similarities, near = nearest_neighbors(features, np.array(labels), queries, k)
    return class_votes(similarities, near, max(labels) + 1, T)[0]


@pytest.mark.parametrize(
    ("train", "labels", "query", "k", "votes", "prediction"),
    [
        (ANGLES, [0, 1, 1], TENTH, 3, [1490087.22765, 520597.377589], 0),
        (FIVE, FIVE_LABELS, [0.6, 0.8], 1, [0, 1600320.19, 0], 1),
        (FIVE, FIVE_LABELS, [0.6, 0.8], 3, [903729.8121, 1692230.77, 0], 1),
        (FIVE, FIVE_LABELS, [3, 1], 3, [1537649.83, 126197.414, 0], 0),
        (
            FIVE,
            FIVE_LABELS,
            [0.6, 0.8],
            5,
            [909008.4775, 1692230.77, 0.0001894418],
            1,
        ),
    ],
)
def test_votes_and_prediction_equal_the_reference(
    train, labels, query, k, votes, prediction
):
    found = found_votes(train, labels, query, k)
    # A similarity is float32; the vote multiplies its error by 1 / T.
    np.testing.assert_allclose(found, votes, rtol=1e-5)
    assert np.argmax(found) == prediction


def test_vote_of_exact_similarities_is_exact():
    similarities = np.array([[0.995004165278, 0.87758256189, 0.867819179678]])
    votes = class_votes(similarities, np.array([[0, 1, 1]]), 2, T)
    np.testing.assert_allclose(votes, [[1490087.22765, 520597.377589]], rtol=1e-10)


@pytest.mark.parametrize("temperature", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("sign", [1, -1])
def test_most_similar_class_wins_at_any_temperature(temperature, sign):
    similarities = np.float32([[0.95, 0.85]]) if sign > 0 else -np.float32([[0.85, 1]])
    votes = class_votes(similarities, np.array([[1, 0]]), 3, temperature)
    assert np.isfinite(votes).all()
    assert votes[0, 1] > votes[0, 0] > votes[0, 2] == 0


def test_votes_that_do_not_overflow_are_exactly_the_sums_of_exponentials():
    rng = np.random.default_rng(0)
    similarities = rng.uniform(-1, 1, (20, 9)).astype(np.float32)
    labels = rng.integers(0, 4, (20, 9))
    for temperature in (1.0, 0.07, 0.003):
        weights = np.exp(similarities.astype(np.float64) / temperature)
        expected = np.zeros((20, 4))
        np.add.at(expected, (np.arange(20)[:, None], labels), weights)
        found = class_votes(similarities, labels, 4, temperature)
        np.testing.assert_array_equal(found, expected)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_accuracy_does_not_depend_on_the_order_of_images_or_classes(seed):
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(40, 5)).astype(np.float32)
    test = rng.normal(size=(25, 5)).astype(np.float32)
    labels, truth = rng.integers(0, 4, 40), rng.integers(0, 4, 25)

    def accuracies(train, labels, test, truth):
        similarities, near = nearest_neighbors(train, labels, test, 7)
        votes = class_votes(similarities, near, 4, T)
        return [top_accuracy(votes, truth, top) for top in (1, 2)]

    images, queries, classes = (rng.permutation(n) for n in (40, 25, 4))
    assert accuracies(train, labels, test, truth) == accuracies(
        train[images], classes[labels[images]], test[queries], classes[truth[queries]]
    )


@given(seed=st.integers(0, 1000), distinct=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_equal_features_of_several_classes_count_in_no_order(seed, distinct):
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(distinct, 5)).astype(np.float32)
    train, test = (kinds[rng.integers(0, distinct, n)] for n in (40, 25))
    labels, truth = (rng.permutation(np.arange(n) % 6) for n in (40, 25))

    def accuracies(train, labels, test, truth):
        found = votes_of_nearest(Features(train, labels), test, (1, 7, 39, 40), 6, T)
        rounding = rounding_of_votes(T)
        return [
            top_accuracy(v, truth, top, rounding) for _, v in found for top in (1, 5)
        ]

    images, queries, classes = (rng.permutation(n) for n in (40, 25, 6))
    assert accuracies(train, labels, test, truth) == pytest.approx(
        accuracies(
            train[images],
            classes[labels[images]],
            test[queries],
            classes[truth[queries]],
        )
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_cosines_that_differ_by_rounding_share_a_place(order):
    # A cosine of 1 - 3e-7, as of equal features whose products are added in two orders.
    train = np.float32([[1, 0], [1, 8e-4]])[order]
    ((_, votes),) = votes_of_nearest(
        Features(train, np.array([0, 1])[order]), np.float32([[1, 0]]), [1], 2, T
    )
    np.testing.assert_allclose(votes[0, 0] / votes.sum(), 0.5, rtol=1e-5)
    labels = np.array([0])
    assert top_accuracy(votes, labels, 1, rounding_of_votes(T)) == 50.0


def test_constant_features_score_chance():
    labels = np.repeat(np.arange(5), [2, 4, 6, 8, 10])
    train = data.arrays(np.full((30, 4, 4, 3), 7, np.uint8), labels)
    found = knn(mean_colour(), train, train, k=(10,))
    # All votes are for the largest class, and all five are among five.
    assert found == {"knn/top1_k10": pytest.approx(100 / 3), "knn/top5_k10": 100.0}


def test_neighbors_that_share_places_vote_as_in_the_mean_of_all_orders(monkeypatch):
    module = sys.modules["byol_keras.benchmarks.frozen.knn"]
    monkeypatch.setattr(module, "_TRAIN_BLOCK", 3)
    monkeypatch.setattr(module, "_TEST_BLOCK", 1)
    # For the first query, three share the places of the second and third neighbor.
    train = np.float32([[4, 3], [1, 0], [4, 3], [0, 1], [4, 3]])
    labels = np.array([0, 2, 1, 3, 1])
    queries = np.float32([[1, 0], [0, 1]])
    shares = shared_neighbors(Features(train, labels), queries, 3, num_classes=4)
    found = class_votes(*shares[:2], 4, T, shares[2])
    expected = []
    for order in itertools.permutations(range(5)):
        order = list(order)
        near = nearest_neighbors(train[order], labels[order], queries, 3, 3, 1)
        expected.append(class_votes(*near, 4, T))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-6)


@pytest.mark.parametrize("train_block", [1, 4, 13, 100])
@pytest.mark.parametrize("test_block", [1, 5, 100])
def test_neighbors_found_in_blocks_equal_those_of_a_full_sort(train_block, test_block):
    rng = np.random.default_rng(0)
    train = rng.normal(size=(37, 6)).astype(np.float32)
    test = rng.normal(size=(11, 6)).astype(np.float32)
    labels = np.arange(37)
    similarities, near = nearest_neighbors(
        train, labels, test, 9, train_block, test_block
    )
    exact = unit(test) @ unit(train).T
    order = np.argsort(-exact, axis=1)[:, :9]
    np.testing.assert_array_equal(near, order)
    expected = np.take_along_axis(exact, order, axis=1)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


@pytest.mark.parametrize("power", [-100, -60, 0, 60, 120])
def test_neighbors_do_not_depend_on_the_scale_of_features(power):
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 6)).astype(np.float32) for n in (37, 11))
    expected = nearest_neighbors(train, np.arange(37), test, 9)
    scale = np.float32(2.0**power)
    found = nearest_neighbors(scale * train, np.arange(37), scale * test, 9)
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, others)


def test_feature_of_zeros_is_similar_to_nothing():
    features = np.array([[0, 0], [3, 4]], np.float32)
    similarities, near = nearest_neighbors(features, np.arange(2), features, 2)
    np.testing.assert_array_equal(similarities[0], [0, 0])
    np.testing.assert_allclose(similarities[1], [1, 0])
    assert near[1].tolist() == [1, 0]


@pytest.mark.parametrize("train_block", [1, 2, 3, 5, 100])
def test_earlier_training_examples_win_ties(train_block):
    # Signs of length 4 become +-0.5, whose products are exact in float32.
    signs = np.random.default_rng(0).choice([-1, 1], (24, 4)).astype(np.float32)
    exact = signs @ signs.T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    _, near = nearest_neighbors(
        signs, np.arange(24), signs, 10, train_block, test_block=7
    )
    np.testing.assert_array_equal(near, order)


def test_no_block_of_similarities_exceeds_the_bounds(monkeypatch):
    shapes = []

    def matmul(a, b, transpose_b):
        product = tf.linalg.matmul(a, b, transpose_b=transpose_b)
        shapes.append(tuple(product.shape))
        return product

    monkeypatch.setattr(tf, "matmul", matmul)
    ones = np.ones((10, 2), np.float32)
    nearest_neighbors(ones, np.arange(10), ones[:5], 4, train_block=4, test_block=3)
    assert shapes == [(3, 4), (2, 4), (3, 4), (2, 4), (3, 2), (2, 2)]


def test_top_accuracy_counts_the_classes_of_most_votes():
    votes = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [0.0, 0.0, 5.0], [4.0, 1.0, 2]])
    labels = np.array([0, 1, 0, 1])
    assert top_accuracy(votes, labels, 1) == 25.0
    assert top_accuracy(votes, labels, 2) == 62.5  # half of the tie at 0
    assert top_accuracy(votes, labels, 3) == 100.0


# End to end, on images whose mean colour is the feature.


def mean_colour():
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def coloured(labels, seed=0):
    """4 x 4 images: class 0, 1, 2 is red, green, blue, each of its own brightness."""
    rng = np.random.default_rng(seed)
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] = rng.integers(20, 256)
    return images


def test_separable_classes_are_all_found():
    labels = np.arange(30) % 3
    train = data.arrays(coloured(labels), labels)
    test = data.arrays(coloured(labels[:12], seed=1), labels[:12])
    found = knn(mean_colour(), train, test, k=(1, 10))
    assert found == {
        "knn/top1_k1": 100.0,
        "knn/top5_k1": 100.0,
        "knn/top1_k10": 100.0,
        "knn/top5_k10": 100.0,
    }


def test_one_wrong_label_of_four_costs_25_percent():
    labels = np.arange(30) % 3
    train = data.arrays(coloured(labels), labels)
    test = data.arrays(coloured([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
    found = knn(mean_colour(), train, test, k=[5])
    assert found == {"knn/top1_k5": 75.0, "knn/top5_k5": 100.0}


def test_accuracy_equals_a_plain_numpy_computation():
    rng = np.random.default_rng(2)
    train_images = rng.integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)
    test_images = rng.integers(0, 256, (40, 2, 2, 3), dtype=np.uint8)
    train_labels, test_labels = rng.permutation(60) % 6, rng.permutation(40) % 6
    found = knn(
        mean_colour(),
        data.arrays(train_images, train_labels),
        data.arrays(test_images, test_labels),
        k=(7,),
        batch_size=16,
    )
    colours = [np.mean(x / 255.0, axis=(1, 2)) for x in (train_images, test_images)]
    expected = {"top1": 0, "top5": 0}
    for query, label in zip(unit(colours[1]), test_labels, strict=True):
        similarities = unit(colours[0]) @ query
        votes = np.zeros(6)
        for i in np.argsort(-similarities)[:7]:
            votes[train_labels[i]] += math.exp(similarities[i] / T)
        above, equal = np.sum(votes > votes[label]), np.sum(votes == votes[label])
        expected["top1"] += max(votes) == votes[label]
        expected["top5"] += min(1, max(0, 5 - above) / equal)
    assert found["knn/top1_k7"] == pytest.approx(expected["top1"] / 40 * 100)
    assert found["knn/top5_k7"] == pytest.approx(expected["top5"] / 40 * 100)


def unit(features):
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [(1, 31), (0,), (2.5,), (), 20, "20"])
def test_wrong_k_is_one_line(k):
    labels = np.arange(30) % 3
    train = data.arrays(coloured(labels), labels)
    with pytest.raises(
        ValueError, match=r"the 30 training images\. Received: "
    ) as error:
        knn(mean_colour(), train, train, k=k)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("temperature", [0, -0.07, "warm"])
def test_temperature_must_be_positive(temperature):
    labels = np.arange(30) % 3
    train = data.arrays(coloured(labels), labels)
    with pytest.raises(ValueError, match=r"knn\.temperature must be positive\. "):
        knn(mean_colour(), train, train, k=(1,), temperature=temperature)
