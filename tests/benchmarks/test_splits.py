"""Splits must agree in classes and channels."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.benchmarks.splits import check_splits


def split(*class_names, channels=3):
    count = len(class_names)
    images = np.zeros((count, 4, 4, channels), np.uint8)
    return dataclasses.replace(
        data.arrays(images, np.arange(count)), class_names=class_names
    )


@pytest.mark.parametrize("names", [("cat", "cow", "dog"), ("cat", "cow")])
def test_split_can_have_only_the_first_classes(names):
    check_splits("knn", split("cat", "cow", "dog"), test_data=split(*names))


def test_split_that_is_none_is_not_checked():
    check_splits("knn", split("cat", "cow"), validation_data=None)


@pytest.mark.parametrize(
    ("names", "received"),
    [
        (("cat", "dog"), "2 classes in arrays"),  # the label of dogs would be shifted
        (("cow", "cat", "dog"), "3 classes in arrays"),
        (("cat", "cow", "dog", "elk"), "'elk', class 3 of arrays"),
        (("cat", "elk"), "'elk', class 1 of arrays"),
    ],
)
def test_other_classes_than_those_of_training_are_one_line(names, received):
    message = rf"knn\.test_data must have the 3 classes .* Received: {received}"
    with pytest.raises(ValueError, match=message):
        check_splits("knn", split("cat", "cow", "dog"), test_data=split(*names))


def test_other_channels_than_those_of_training_are_one_line():
    message = r"knn\.test_data must have the 3 channels .* Received: 1 in arrays"
    with pytest.raises(ValueError, match=message):
        check_splits("knn", split("cat", "cow"), test_data=split("cat", channels=1))


def test_one_class_is_refused():
    rule = r"^knn\.train_data must have two or more classes\. Received: one, 'images', "
    with pytest.raises(ValueError, match=rule):
        check_splits("knn", split("images"), test_data=split("images"))


def test_test_images_that_are_training_images_are_a_warning(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    caplog.set_level("WARNING", logger="byol_keras")
    whole = data.image_folder(tmp_path)
    part, rest = whole.subset([0, 3], "part"), whole.subset([1, 2, 4, 5], "rest")
    check_splits("knn", rest, test_data=part)
    assert not caplog.messages
    for _ in range(2):
        check_splits("knn", whole, test_data=part, validation_data=rest)
    (warning,) = caplog.messages
    assert warning.startswith("knn.test_data: 2 of 2 images compared are also in train")
