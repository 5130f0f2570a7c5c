"""Training, validation and test splits: checks, and a random validation split."""

import functools
import logging

import numpy as np

from byol_keras.data.equal_files import shared_images
from byol_keras.data.subsets import class_ranks

# Without validation data, a fifth of the training images is held out.
_FOLDS = 5


def check_splits(name: str, train_data, **others) -> None:
    """Raises a `ValueError` unless all splits agree in channels and classes.

    There are two or more classes, and each image has one label. A split may lack the
    last classes of `train_data`; otherwise names and order must be equal, so that
    labels mean the same classes.

    Args:
        name: str. The benchmark's, for messages.
        train_data: `image_data.ImageData`.
        **others: other splits, by the names of their arguments. None is skipped.
    """
    if train_data.class_names is not None and len(train_data.class_names) == 1:
        raise ValueError(
            f"{name}.train_data must have two or more classes. Received: one, "
            f"{train_data.class_names[0]!r}, in {train_data.name}"
        )
    given = {argument: data for argument, data in others.items() if data is not None}
    for argument, data in {"train_data": train_data, **given}.items():
        rule = f"{name}.{argument} must have"
        if data.class_names is None:
            raise ValueError(f"{rule} labels. Received: {data.name}")
        if data.ordered().element_spec["label"].shape.rank != 0:
            raise ValueError(
                f"{rule} one label per image. Received: {data.name}, with one per class"
            )
        if data.channels != train_data.channels:
            raise ValueError(
                f"{rule} the {train_data.channels} channels of train_data. "
                f"Received: {data.channels} in {data.name}"
            )
        known = train_data.class_names[: len(data.class_names)]
        if tuple(data.class_names) != tuple(known):
            raise ValueError(
                f"{rule} the {len(train_data.class_names)} classes of train_data, in "
                f"the same order. Received: {_difference(data, train_data)}"
            )

    if given.get("test_data") is not None:
        warn_of_shared_images(name, train_data, given["test_data"])


def warn_of_shared_images(name: str, train_data, test_data) -> None:
    """Logs a warning if test images are also training images.

    Args:
        name: str. The benchmark's, for the message.
        train_data, test_data: `image_data.ImageData`.
    """
    shared = shared_images(test_data, train_data)
    if shared.count:
        _warn_once(
            f"{name}.test_data: {shared.count} of {shared.compared} images compared "
            f"are also in train_data, such as {shared.example}"
        )


@functools.cache
def _warn_once(line):
    logging.getLogger("byol_keras").warning("%s", line)


def _difference(data, train_data):
    names, known = data.class_names, train_data.class_names
    strangers = [name for name in names if name not in known]
    if strangers:
        return f"{strangers[0]!r}, class {names.index(strangers[0])} of {data.name}"
    return f"{len(names)} classes in {data.name}"


def split_places(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a fifth of each class, and at least one example of two or more.

    Args:
        labels: int64 `[N]`.
        seed: int. Determines which examples are held out.

    Returns:
        Places to train on and places held out, int64, each in ascending order.

    Raises:
        ValueError: if there are several labels per example, or no class has two
            examples.
    """
    if labels.ndim != 1:
        raise ValueError(
            "labels must be one per image where a part is held out for validation. "
            f"Received: labels of shape {labels.shape}"
        )
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept_back = np.where(counts > 1, np.maximum(1, np.round(counts / _FOLDS)), 0)
    is_held_out = class_ranks(classes, counts, seed) < kept_back[classes]
    if not is_held_out.any():
        raise ValueError(
            "train_data must have two images of some class to hold one out for "
            f"validation. Received: {len(labels)} images of as many classes"
        )
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
