"""Low-shot SVMs: draws of images and choice of the cost."""

import importlib.util
import warnings

import numpy as np
import pytest

from byol_keras import data
from byol_keras.benchmarks.average_precision import average_precision
from byol_keras.benchmarks.frozen import linear_svms
from byol_keras.benchmarks.frozen.low_shot_svm import (
    drawn_images,
    low_shot_metrics,
    low_shot_svm,
)

from support.datasets import image_data, make_multi_label, mean_colour

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)

COSTS = (1.0, 0.0625, 0.5**12)


def twenty_classes():
    _, _, labels = make_multi_label(600, classes=20, ignored=0.1)
    return labels


def test_draws_are_k_of_a_class_and_19_k_others_without_images_to_ignore():
    labels = twenty_classes()
    for k in (1, 2, 8):
        drawn = drawn_images(labels, k, seed=0, sample=0)
        assert len(drawn) == 20
        for places, column in zip(drawn, labels.T, strict=True):
            assert len(set(places)) == 20 * k
            assert np.sum(column[places] == 1) == k
            assert np.sum(column[places] == 0) == 19 * k


def test_all_others_are_drawn_if_they_are_too_few():
    labels = twenty_classes()
    for places, column in zip(drawn_images(labels, 64, 0, 0), labels.T, strict=True):
        assert np.sum(column[places] == 1) == 64
        assert set(np.flatnonzero(column == 0)) <= set(places)


def test_draws_repeat_with_the_seed_and_differ_between_samples_and_seeds():
    labels = twenty_classes()
    first = drawn_images(labels, 4, seed=0, sample=0)
    again = drawn_images(labels, 4, seed=0, sample=0)
    np.testing.assert_array_equal(first, again)
    for seed, sample in ((0, 1), (1, 0)):
        others = drawn_images(labels, 4, seed, sample)
        for places, other in zip(first, others, strict=True):
            assert set(places) != set(other)


def test_every_image_of_a_class_can_be_drawn():
    labels = twenty_classes()[:60, :2]
    seen = [drawn_images(labels, 2, 0, sample)[0] for sample in range(200)]
    assert set(np.concatenate(seen)) == set(np.flatnonzero(labels[:, 0] != -1))


def test_cost_is_chosen_on_held_out_images_and_also_on_test_images():
    held_out = np.array([[[0.9, 0.5], [0.7, 0.5]], [[0.8, 0.5], [0.6, 0.5]]])
    tested = np.array([[[0.2, 0.6], [0.4, 0.8]], [[0.4, 0.7], [0.6, 0.9]]])
    assert low_shot_metrics(4, held_out, tested) == {
        "low_shot_svm/k4_mAP": pytest.approx(40.0),
        "low_shot_svm/k4_mAP_std": pytest.approx(10.0),
        "low_shot_svm/k4_mAP_cost_chosen_on_test": pytest.approx(75.0),
    }


def test_class_without_held_out_images_does_not_affect_the_choice():
    held_out = np.array([[[np.nan, np.nan], [0.5, 0.6]]])
    tested = np.array([[[0.9, 0.1], [0.9, 0.1]]])
    found = low_shot_metrics(1, held_out, tested)
    assert found["low_shot_svm/k1_mAP"] == pytest.approx(10.0)
    assert found["low_shot_svm/k1_mAP_cost_chosen_on_test"] == pytest.approx(90.0)


def plain_precisions(train, train_labels, test, test_labels, k, samples):
    """`[samples, classes, costs]`, held out and tested, one SVM after another."""
    from sklearn.svm import LinearSVC

    shape = (samples, train_labels.shape[1], len(COSTS))
    held_out, tested = np.empty(shape), np.empty(shape)
    for sample, c, number in np.ndindex(shape):
        places = drawn_images(train_labels, k, 7, sample)[c]
        signs = np.where(train_labels[places, c] == 1, 1, -1)
        weights = {1: 2, -1: 1}
        settings = {"dual": True, "max_iter": 2000, "random_state": 0}
        model = LinearSVC(C=COSTS[number], class_weight=weights, **settings)
        model.fit(train[places], signs)
        known = test_labels[:, c] != -1
        undrawn = train_labels[:, c] != -1
        undrawn[places] = False
        for target, features, labels, mask in (
            (tested, test, test_labels, known),
            (held_out, train, train_labels, undrawn),
        ):
            scores = model.decision_function(features[mask])
            target[sample, c, number] = average_precision(scores, labels[mask, c] == 1)
    return held_out, tested


def test_metrics_equal_a_plain_computation_with_ignored_labels():
    train, train_images, train_labels = make_multi_label(80, ignored=0.2)
    test, test_images, test_labels = make_multi_label(50, seed=1, ignored=0.2)
    found = low_shot_svm(
        mean_colour(),
        train,
        test,
        ks=[2, 5],
        samples=2,
        seed=7,
        feature="avgpool",
        costs=COSTS,
        jobs=1,
    )
    features = [
        linear_svms.unit_length(images[:, 0, 0] / np.float32(255))
        for images in (train_images, test_images)
    ]
    expected = {}
    for k in (2, 5):
        held_out, tested = plain_precisions(
            features[0], train_labels, features[1], test_labels, k, samples=2
        )
        expected |= low_shot_metrics(k, held_out, tested)
    assert found == pytest.approx(expected)
    assert len(found) == 6


def test_classes_with_too_few_images_are_left_out():
    _, train_images, train_labels = make_multi_label(80, classes=4)
    _, test_images, test_labels = make_multi_label(50, classes=4, seed=1)
    train_images, test_images = train_images[..., :3], test_images[..., :3]
    train_labels[:, 3] = 0
    test_labels[:, 2] = 0
    kept = [0, 1]
    splits = [(train_images, train_labels), (test_images, test_labels)]
    read = {
        "ks": [2],
        "samples": 2,
        "feature": "avgpool",
        "costs": COSTS,
        "jobs": 1,
    }
    found, expected = (
        low_shot_svm(
            mean_colour(),
            *(image_data(images, labels[:, places]) for images, labels in splits),
            leave_out_classes=leave_out,
            **read,
        )
        for places, leave_out in (([0, 1, 2, 3], True), (kept, False))
    )
    assert found == expected


def test_separable_classes_have_a_map_of_100():
    labels = np.arange(60) % 3
    images = np.zeros((60, 2, 2, 3), np.uint8)
    images[np.arange(60), ..., labels] = 200
    train = data.arrays(images, labels)
    found = low_shot_svm(
        mean_colour(), train, train, [1, 4], 2, feature="avgpool", costs=(1.0,), jobs=1
    )
    for k in (1, 4):
        assert found[f"low_shot_svm/k{k}_mAP"] == 100.0
        assert found[f"low_shot_svm/k{k}_mAP_std"] == 0.0


def test_unconverged_svms_are_counted_and_reported_once(monkeypatch, caplog):
    monkeypatch.setitem(linear_svms.LINEAR_SVC, "max_iter", 1)
    train, _, _ = make_multi_label()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low_shot_svm(
            mean_colour(),
            train,
            train,
            [4],
            2,
            feature="avgpool",
            costs=(100.0,),
            jobs=1,
        )
    found = [record.getMessage() for record in caplog.records]
    # 2 samples of 3 classes.
    message = "low_shot_svm: 6 SVMs stopped at 1 iterations, before they converged."
    assert [line for line in found if "converged" in line] == [message]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ks": [1, 0]}, r"ks must be a list of positive ints\. Received: "),
        ({"ks": []}, r"ks must be a list of positive ints\. Received: "),
        ({"ks": "12"}, r"ks must be a list of positive ints\. Received: "),
        ({"samples": 0}, r"samples must be a positive int\. Received: 0"),
        ({"seed": -1}, r"seed must be an int of at least 0\. Received: -1"),
        ({"costs": (-1.0,)}, r"costs must be a list of positive numbers\. Received: "),
        ({"jobs": "2"}, r"jobs must be a positive int\. Received: '2'"),
        ({"ks": [2, 50]}, r"train_data must have 50 or more images of every class\. "),
    ],
)
def test_wrong_argument_is_one_line_before_any_work(wrong, message):
    train, _, _ = make_multi_label()
    with pytest.raises(ValueError, match=r"low_shot_svm\." + message) as error:
        low_shot_svm(None, train, train, **wrong)
    assert "\n" not in str(error.value)


def test_k_that_leaves_nothing_to_choose_the_cost_on_is_one_line():
    _, images, _ = make_multi_label(30)
    labels = (np.arange(30)[:, None] % 3 == np.arange(3)).astype(np.int64)
    train = image_data(images, labels)  # 10 images of each class
    message = r"low_shot_svm\.ks must leave images .* cost\. Received: 10 for tiny"
    with pytest.raises(ValueError, match=message):
        low_shot_svm(None, train, train, [1, 10])
