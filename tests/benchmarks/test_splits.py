"""Splits must agree in classes and channels."""

import dataclasses

import numpy as np
import pytest

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
        check_splits("knn", split("cat"), test_data=split("cat", channels=1))
