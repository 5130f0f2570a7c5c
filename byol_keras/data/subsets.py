"""Parts of a dataset: a share of every class, or the files that a list names."""

import os
import pathlib

import gin
import numpy as np

from byol_keras.data.image_data import ImageData
from byol_keras.data.published_folder import read_lines
from byol_keras.runtime.argument_checks import check_int


@gin.register(module="byol_keras")
def stratified_subset(
    data: ImageData,
    fraction: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> ImageData:
    """The same share, or the same number, of examples of every class.

    The choice is a pure function of the labels and the seed. With the same seed, a
    smaller subset is contained in every larger one. Unreadable images are chosen as
    others are, and left out where the subset is evaluated: so one broken file changes
    no other choice, and no image is read for it.

    Args:
        data: `ImageData` with one label per image.
        fraction: float in 0..1, 0 excluded. A class of n examples keeps
            `round(fraction * n)` of them, but at least 1.
        per_class: int, instead of `fraction`. Examples of each class.
        seed: int, at least 0.

    Returns:
        `ImageData` of the chosen examples, in stored order.

    Raises:
        ValueError: if not exactly one of `fraction` and `per_class` is given, or it is
            out of its range; if a class has fewer than `per_class` examples; if `data`
            have no labels or several per image, or are in files too large for memory.
    """
    _check_share(fraction, per_class)
    labels = data.stored_labels()
    if labels.ndim != 1:
        raise ValueError(
            "stratified_subset.data must have one label per image. "
            f"Received: {data.name}, with {labels.shape[1]} labels per image"
        )
    classes, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if per_class is None:
        kept = np.maximum(1, np.round(fraction * counts))
        share = f"{100 * fraction:g} %"
    else:
        kept, share = np.full_like(counts, per_class), str(per_class)
        if counts.min() < per_class:
            raise ValueError(
                f"per_class must be at most {counts.min()}, the number of examples of "
                f"class {classes[counts.argmin()]}. Received: {per_class}"
            )
    chosen = np.flatnonzero(class_ranks(labels, counts, seed) < kept[labels])
    return data.subset(chosen, f"{data.name}, {share} of each class, seed {seed}")


@gin.register(module="byol_keras")
def listed_subset(data: ImageData, names_file: str | os.PathLike) -> ImageData:
    """The examples whose files a list names, such as 1 % or 10 % of ImageNet.

    Args:
        data: `ImageData` of image files.
        names_file: text of one file per line: its path relative to the folder of the
            data, or its name alone.

    Returns:
        `ImageData` of these examples, each once, in stored order.

    Raises:
        ValueError: if the list is missing or empty; if it names a file that the data
            do not contain, or contain more than once; if the data are not files.

    Source: the lists of ImageNet are in google-research/simclr, imagenet_subsets; TFDS
        has the same images as `imagenet2012_subset/1pct` and `/10pct`.
    """
    path = pathlib.Path(names_file).expanduser()
    if data.names is None:
        raise ValueError(
            "listed_subset.data must be image files, which have names. "
            f"Received: {data.name}"
        )
    if not path.is_file():
        raise ValueError(
            f"listed_subset.names_file must be an existing file. Received: {path}"
        )
    lines = (line.strip() for line in read_lines(path))
    names = sorted({line for line in lines if line})
    if not names:
        raise ValueError(
            f"listed_subset.names_file must name files. Received: {path} without any"
        )
    places = _places_of(names, data)
    return data.subset(places, f"{data.name}, files of {path.name}")


def _check_share(fraction, per_class):
    if (fraction is None) == (per_class is None):
        raise ValueError(
            "stratified_subset needs either fraction or per_class. "
            f"Received: {fraction!r} and {per_class!r}"
        )
    is_number = isinstance(fraction, (int, float))
    if fraction is not None and not (is_number and 0.0 < fraction <= 1.0):
        raise ValueError(
            f"fraction must be in 0..1, 0 excluded. Received: {fraction!r}"
        )
    if per_class is not None:
        check_int("per_class", per_class, least=1)


def class_ranks(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """int64 `[N]`: the rank of every example in a random order of its class.

    Args:
        labels: int `[N]`, all of 0..len(counts) - 1.
        counts: int `[classes]`. Examples of each class.
        seed: int, at least 0.
    """
    # NumPy guarantees the raw numbers of a bit generator across versions, but not its
    # shuffles.
    draws = np.random.PCG64(seed).random_raw(len(labels))
    order = np.lexsort((draws, labels))
    first = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(first, counts)
    return ranks


def _places_of(names, data):
    """Sorted places of the named files in the data, one per name."""
    found = {name: [] for name in names}
    for place, file in enumerate(data.names):
        for name in {file, file.rpartition("/")[2]}:
            if name in found:
                found[name].append(place)
    _refuse("are not among the data", [n for n in names if not found[n]], names, data)
    _refuse(
        "are of several images", [n for n in names if len(found[n]) > 1], names, data
    )
    return np.unique([places[0] for places in found.values()])


def _refuse(problem, wrong, names, data):
    if wrong:
        raise ValueError(
            f"listed_subset.names_file must name one file of {data.name} per line. "
            f"Received: {len(wrong)} of {len(names)} names that {problem}, such as "
            f"{', '.join(wrong[:3])}"
        )
