"""Logistic regression equals scikit-learn's, with a validated strength."""

import dataclasses
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.benchmarks.frozen.logistic import L2_STRENGTHS, logistic
from byol_keras.benchmarks.splits import split_places

linear_model = pytest.importorskip("sklearn.linear_model")


def mean_colour():
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def noisy(num_images, seed):
    """Images whose colours say something about their class, features and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(num_images) % 3
    images = rng.integers(0, 200, (num_images, 2, 2, 3), dtype=np.uint8)
    images[np.arange(num_images), :, :, labels] += 40
    features = np.mean(images / np.float32(255), axis=(1, 2), dtype=np.float32)
    return data.arrays(images, labels), features.astype(np.float64), labels


def primaries(labels):
    """Red, green and blue images of classes 0, 1 and 2, each of its own brightness."""
    rng = np.random.default_rng(0)
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] = rng.integers(100, 256)
    return data.arrays(images, np.array(labels))


def accuracy_of_plain_run(strength, train, test):
    model = linear_model.LogisticRegression(C=1 / strength, max_iter=1000)
    return 100 * model.fit(*train).score(*test)


def test_separable_classes_are_all_found():
    found = logistic(mean_colour(), primaries([0, 1, 2] * 10), primaries([0, 1, 2] * 2))
    assert found.pop("logistic/l2") in L2_STRENGTHS
    assert found == {
        "logistic/top1": 100.0,
        "logistic/mean_per_class_top1": 100.0,
        "logistic/validation_top1": 100.0,
    }


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0, 1e3])
def test_result_equals_a_plain_scikit_learn_run(strength):
    train, *train_arrays = noisy(90, seed=0)
    test, *test_arrays = noisy(60, seed=1)
    found = logistic(mean_colour(), train, test, l2=(strength,))
    expected = accuracy_of_plain_run(strength, train_arrays, test_arrays)
    assert 34.0 < expected < 99.0
    assert found["logistic/top1"] == pytest.approx(expected, abs=1e-9)


def test_strength_is_the_best_on_the_held_out_part_of_train():
    train, features, labels = noisy(90, seed=0)
    test, *test_arrays = noisy(60, seed=1)
    strengths = (1e-3, 1.0, 1e4)
    found = logistic(mean_colour(), train, test, l2=strengths, seed=3)
    parts = [(features[p], labels[p]) for p in split_places(labels, seed=3)]
    accuracies = {s: accuracy_of_plain_run(s, *parts) for s in sorted(strengths)[::-1]}
    assert len(set(accuracies.values())) > 1
    best = max(accuracies, key=accuracies.get)
    assert found["logistic/l2"] == best
    assert found["logistic/validation_top1"] == pytest.approx(accuracies[best])
    expected = accuracy_of_plain_run(best, (features, labels), test_arrays)
    assert found["logistic/top1"] == pytest.approx(expected)


def test_larger_of_two_equal_strengths_is_chosen():
    train = primaries([0, 1, 2] * 10)
    found = logistic(mean_colour(), train, train, l2=(1e-4, 1e-2, 1e-3))
    assert found["logistic/validation_top1"] == 100.0
    assert found["logistic/l2"] == 1e-2


def test_last_fit_uses_training_and_validation_examples():
    validation = primaries([0, 1, 2] * 6)
    names = validation.class_names
    train = dataclasses.replace(primaries([0, 1] * 9), class_names=names)
    found = logistic(
        mean_colour(),
        train,
        primaries([2, 2, 2, 1]),
        l2=(1e-3,),
        validation_data=validation,
    )
    assert found["logistic/validation_top1"] == pytest.approx(100 * 2 / 3)
    assert found["logistic/top1"] == 100.0  # class 2 is in the validation data only


def test_mean_per_class_weights_all_classes_of_the_test_data_equally():
    test = primaries([0, 0, 0, 1])
    images = np.stack([example["image"] for example in test.ordered()])
    wrong = data.arrays(images, np.array([0, 0, 0, 2]))
    found = logistic(mean_colour(), primaries([0, 1, 2] * 10), wrong, l2=(1e-3,))
    assert found["logistic/top1"] == 75.0
    assert found["logistic/mean_per_class_top1"] == 50.0


def test_strengths_are_45_from_1e_6_to_1e5():
    assert len(L2_STRENGTHS) == 45
    assert L2_STRENGTHS[0] == pytest.approx(1e-6)
    assert L2_STRENGTHS[-1] == pytest.approx(1e5)
    ratios = np.divide(L2_STRENGTHS[1:], L2_STRENGTHS[:-1])
    np.testing.assert_allclose(ratios, 10 ** (11 / 44))


def test_fits_that_do_not_converge_are_counted_in_one_warning(caplog, recwarn):
    train, *_ = noisy(90, seed=0)
    with caplog.at_level("WARNING", logger="byol_keras"):
        logistic(mean_colour(), train, train, l2=(1e-3, 1e-2), max_iterations=1)
    (message,) = [text for text in caplog.messages if "fits" in text]
    assert message.startswith("3 fits of the logistic regression did not converge")
    assert not [w for w in recwarn if w.category.__name__ == "ConvergenceWarning"]


def test_other_warnings_of_the_fits_are_passed_on(monkeypatch):
    def fit(self, features, labels):
        warnings.warn("features are odd", RuntimeWarning, stacklevel=2)
        return true_fit(self, features, labels)

    true_fit = linear_model.LogisticRegression.fit
    monkeypatch.setattr(linear_model.LogisticRegression, "fit", fit)
    train = primaries([0, 1, 2] * 10)
    with pytest.warns(RuntimeWarning, match="features are odd"):
        logistic(mean_colour(), train, train, l2=(1e-3,))


def test_a_fifth_of_each_class_is_held_out():
    labels = np.array([0] * 20 + [1] * 10 + [2] * 2 + [3])
    places, held_out = split_places(labels, seed=0)
    assert np.bincount(labels[held_out], minlength=4).tolist() == [4, 2, 1, 0]
    np.testing.assert_array_equal(np.sort([*places, *held_out]), np.arange(33))
    assert np.all(np.diff(places) > 0)
    assert np.all(np.diff(held_out) > 0)


def test_seed_determines_the_held_out_examples():
    labels = np.arange(100) % 4
    first, same, other = (split_places(labels, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert set(first) != set(other)


def test_classes_of_one_example_leave_nothing_to_hold_out():
    with pytest.raises(ValueError, match=r"^train_data must have two images of some"):
        split_places(np.arange(5), seed=0)


@pytest.mark.parametrize("l2", [(), 1.0, (0.0, 1.0), (-1.0,), ("1",)])
def test_wrong_strengths_are_one_line(l2):
    with pytest.raises(ValueError, match=r"^logistic\.l2 must .*\. Received: "):
        logistic(None, None, None, l2=l2)


@pytest.mark.parametrize("max_iterations", [0, 2.5])
def test_wrong_number_of_iterations_is_one_line(max_iterations):
    with pytest.raises(ValueError, match=r"^logistic\.max_iterations must .*Received"):
        logistic(None, None, None, max_iterations=max_iterations)


def test_several_labels_per_image_are_one_line():
    one_label = primaries([0, 1])

    def fetch(place):
        return one_label.source.fetch(place) | {"label": tf.one_hot(place, 2)}

    several = dataclasses.replace(
        one_label, source=dataclasses.replace(one_label.source, fetch=fetch)
    )
    with pytest.raises(ValueError, match=r"train_data must have one label per image"):
        logistic(mean_colour(), several, several)
    with pytest.raises(ValueError, match=r"^labels must be one per image .* \(4, 2\)$"):
        split_places(np.zeros((4, 2), np.int64), seed=0)


def test_single_class_is_one_line():
    one_class = primaries([1] * 6)
    with pytest.raises(ValueError, match=r"^data must have one label per image, and"):
        logistic(mean_colour(), one_class, one_class)


def test_missing_scikit_learn_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[benchmarks\]"'):
        logistic(None, None, None)
