"""kNN of classes has known values, and agrees with the benchmark."""

import keras
import numpy as np
import pytest

from byol_keras import data
from byol_keras.benchmarks.frozen.features import Features
from byol_keras.benchmarks.frozen.knn import votes_of_nearest
from byol_keras.report import class_scores
from byol_keras.report.class_scores import (
    affordable_images,
    better_baselines,
    is_due,
    knn_accuracy,
    read_labelled,
)


def two_classes(count=30):
    """Flat images: dark ones of class 0 and bright ones of class 1."""
    labels = np.arange(count) % 2
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images += (40 + 120 * labels + np.arange(count) % 5).astype(np.uint8)[
        :, None, None, None
    ]
    return data.arrays(images, labels)


def test_accuracy_is_that_of_the_benchmark_without_the_image_itself():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 8)).astype(np.float32)
    labels = rng.integers(0, 3, 60)
    features += 0.8 * np.eye(3, 8, dtype=np.float32)[labels]
    hits = []
    for place in range(60):
        rest = np.arange(60) != place
        known = Features(features[rest], labels[rest])
        ((_, votes),) = votes_of_nearest(known, features[place, None], (20,), 3, 0.07)
        hits.append(votes.argmax() == labels[place])
    assert 40.0 < 100.0 * np.mean(hits) < 95.0
    assert knn_accuracy(features, labels) == pytest.approx(100.0 * np.mean(hits))


def test_classes_of_opposite_directions_are_told_apart():
    labels = np.arange(50) % 2
    features = np.where(labels[:, None] == 1, 1.0, -1.0) * np.ones((50, 4))
    assert knn_accuracy(features, labels) == 100.0
    assert knn_accuracy(features, np.arange(50) % 25) < 10.0
    assert knn_accuracy(np.zeros((50, 4)), np.zeros(50, int)) == 100.0


def test_scores_of_pixels_and_of_a_backbone():
    found = read_labelled(two_classes(), (8, 8, 3), 30, seed=0)
    assert sorted(found.labels) == [0] * 15 + [1] * 15
    np.testing.assert_array_equal(found.images[:, 0, 0, 0] > 100, found.labels)
    # Flat images have one direction: only a backbone with an offset separates them.
    assert class_scores.score_of_pixels(found) < 70.0
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    offset = keras.layers.Rescaling(1.0, (-0.4, -0.4, -0.4))(pooled)
    for outputs in (offset, {"avgpool": offset}):
        backbone = keras.Model(images, outputs)
        assert class_scores.scorer_of(backbone, found)() == 100.0


def test_images_in_memory_are_limited(monkeypatch):
    monkeypatch.setattr(class_scores, "MOST_BYTES", 25 * 8 * 8 * 3)
    found = read_labelled(two_classes(), (8, 8, 3), 30, seed=0)
    assert found.images.shape == (25, 8, 8, 3)
    assert found.images.dtype == np.uint8


@pytest.mark.parametrize(
    "source",
    [
        data.arrays(np.zeros((30, 8, 8, 3), np.uint8), np.zeros(30, int)),
        two_classes(20),
    ],
    ids=["one class", "no more images than neighbors"],
)
def test_data_without_neighbors_of_two_classes_are_not_scored(source):
    assert read_labelled(source, (8, 8, 3), 30, seed=0) is None


@pytest.mark.parametrize(
    ("examples", "epochs", "count"),
    [
        (50_000, 10, 1000),
        (900, 1000, 900),
        (3_000, 20, 600),  # 600 images, 4 times, are 0.5 % of 8 x 60,000
        (3_000, 6, 0),
        (150, 1000, 0),
    ],
)
def test_number_of_images_is_what_the_run_can_afford(examples, epochs, count):
    assert affordable_images(examples, epochs) == count


def test_readings_are_due_after_a_fifth_a_half_and_all_of_the_run():
    readings, steps = [], []
    for epoch in range(1, 21):
        if is_due(readings, epoch / 20):
            readings.append([epoch, epoch / 20, 50.0])
            steps.append(epoch)
    assert steps == [4, 10, 20]
    assert is_due([], 1.0)


@pytest.mark.parametrize(
    ("now", "better"),
    [
        (30.0, {"a": 47.0, "b": 34.0}),
        (33.0, {"a": 47.0}),  # b is within the standard error, 2.1
        (60.0, {}),
        (0.0, {"a": 47.0, "b": 34.0}),
    ],
)
def test_baselines_are_better_if_they_are_clearly_above_the_last_reading(now, better):
    readings = [[10, 0.2, 99.0], [20, 1.0, now]]
    scores = {"images": 1000, "baselines": {"a": 47.0, "b": 34.0}, "readings": readings}
    assert better_baselines(scores) == better
    assert better_baselines(scores | {"readings": []}) == {}


@pytest.mark.parametrize(
    ("readings", "better"),
    [
        ([40.0], {}),  # has risen by more than the standard error
        ([40.0, 40.0], {"raw pixels": 47.0}),
        ([35.0], {"raw pixels": 47.0}),
        ([30.0], {"raw pixels": 47.0, "the backbone before training": 34.0}),
    ],
)
def test_raw_pixels_count_at_the_second_reading_if_the_first_has_risen(
    readings, better
):
    scores = {
        "images": 1000,
        "baselines": {"raw pixels": 47.0, "the backbone before training": 34.0},
        "readings": [[step, 0.2, score] for step, score in enumerate(readings)],
    }
    assert better_baselines(scores) == better


def test_score_is_that_of_the_weights_at_the_call():
    found = read_labelled(two_classes(), (8, 8, 3), 30, seed=0)
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    dense = keras.layers.Dense(1)
    backbone = keras.Model(images, dense(pooled))
    dense.set_weights([np.zeros((3, 1)), np.ones(1)])
    score = class_scores.scorer_of(backbone, found)
    assert score() < 70.0  # one direction for all
    dense.set_weights([np.ones((3, 1)), np.array([-1.2])])
    assert score() == 100.0
