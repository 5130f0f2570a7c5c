"""Linear SVMs, one class against the rest: shared parts of the SVM benchmarks."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from byol_keras.benchmarks.average_precision import average_precision
from byol_keras.benchmarks.frozen.features import Features
from byol_keras.benchmarks.left_out_classes import note_left_out_classes
from byol_keras.benchmarks.splits import warn_of_shared_images
from byol_keras.runtime.argument_checks import check_int
from byol_keras.runtime.progress import tracked

_logger = logging.getLogger("byol_keras")

# Of equally good costs the first is chosen.
# Source: mmselfsup 0.x, svm_helper.py.
COSTS = (1.0, 10.0, 100.0, *(0.5**power for power in range(4, 20)))

# Source: mmselfsup 0.x, train_svm_kfold_parallel.py.
# Deviation: a fixed `random_state`, which orders the coordinate descent. So an SVM that
# stops before convergence is the same in every run.
LINEAR_SVC = {
    "penalty": "l2",
    "loss": "squared_hinge",
    "dual": True,
    "tol": 1e-4,
    "intercept_scaling": 1.0,
    "class_weight": {1: 2, -1: 1},
    "max_iter": 2000,
    "random_state": 0,
}


def in_processes(
    task: Callable, calls: Sequence[tuple], jobs: int | None, description: str
) -> Iterable:
    """Results of `task(*call)` for each call, in order, with a progress bar.

    The processes map arrays above 1 MB from one file instead of receiving copies.

    Args:
        task: function to call.
        calls: tuples of its arguments.
        jobs: int. Processes. None uses all cores; 1 uses only this process.
        description: str. Name of the work in the progress bar.
    """
    from joblib import Parallel, delayed

    parallel = Parallel(-1 if jobs is None else jobs, return_as="generator")
    results = parallel(delayed(task)(*call) for call in calls)
    return tracked(results, description, len(calls), transient=True)


def known_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Average precision of one class over the images whose label is known.

    Args:
        scores: float `[N]`.
        targets: `[N]`: 1, 0, or -1 for images to ignore.
    """
    known = targets != -1
    return average_precision(scores[known], targets[known] == 1)


def unit_length(features: np.ndarray) -> np.ndarray:
    """float64 `[N, D]`: each row divided by its norm plus 1e-5.

    Source: mmselfsup 0.x, svm_helper.py.
    """
    features = np.array(features, np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-5
    return features


def class_targets(train_data, test_data, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both splits as binary targets of each class.

    Args:
        train_data, test_data: `ImageData` with one or several labels per image.
        name: str. The benchmark's name, for messages.

    Returns:
        int8 `[N, classes]` and `[M, classes]`: 1, 0, or -1 where the class of an image
        is to be ignored.

    Raises:
        ValueError: if a split has no labels, or the numbers of classes differ.
    """
    train, test = (
        targets_of(data.labels(), len(data.class_names))
        for data in (train_data, test_data)
    )
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{name}.test_data must have the {train.shape[1]} classes of train_data. "
            f"Received: {test.shape[1]} in {test_data.name}"
        )
    warn_of_shared_images(name, train_data, test_data)
    return train, test


def targets_of(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """int8 `[N, classes]` of labels `[N]` or `[N, classes]`; see `class_targets`."""
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(num_classes)
    return labels.astype(np.int8)


def prepared(found: Features, data, classes: np.ndarray) -> Features:
    """Features of length 1, and binary targets of some classes.

    Args:
        found: features and labels.
        data: `ImageData` that they are of.
        classes: places of the classes, int64.
    """
    targets = targets_of(found.labels, len(data.class_names))[:, classes]
    return Features(unit_length(found.features), targets)


class Need(NamedTuple):
    """What every class that is scored must have.

    Args:
        argument: str. Name of the argument that holds the data.
        data: `ImageData`.
        belongs: bool `[N, classes]`: whether an image counts for a class.
        least: int. Images that each class needs.
        relation: str. "of" or "outside", for the message.
    """

    argument: str
    data: Any
    belongs: np.ndarray
    least: int
    relation: str = "of"


def check_counts(need: Need) -> None:
    """Raises a `ValueError` if a class has fewer images than it needs."""
    counts = need.belongs.sum(axis=0)
    place = int(np.argmin(counts))
    if counts[place] < need.least:
        raise ValueError(
            f"{need.argument} must have {need.least} or more images {need.relation} "
            f"every class. Received: {counts[place]} {need.relation} "
            f"{need.data.class_names[place]!r} in {need.data.name}"
        )


def scored_classes(name: str, needs: Sequence[Need], leave_out: bool) -> np.ndarray:
    """Places of the classes that have all images that they need, int64.

    Args:
        name: str. The benchmark's, for messages.
        needs: of every class.
        leave_out: bool. Whether the other classes are left out, with a log line.

    Raises:
        ValueError: if there are other classes, unless they are left out; if fewer than
            two classes remain.
    """
    if not leave_out:
        for need in needs:
            check_counts(need)
    enough = [need.belongs.sum(axis=0) >= need.least for need in needs]
    kept = np.all(enough, axis=0)
    names = np.array(needs[0].data.class_names)
    if kept.sum() < 2:
        raise ValueError(
            f"{name}.train_data and test_data must have enough images of two or more "
            f"classes. Received: enough of {', '.join(names[kept]) or 'none'}"
        )
    left_out = names[~kept].tolist()
    note_left_out_classes(left_out)
    if left_out:
        _logger.warning(
            "%s: %d of %d classes are left out, with too few images: %s",
            name,
            len(left_out),
            len(names),
            ", ".join(left_out),
        )
    return np.flatnonzero(kept)


def check_costs(argument: str, costs: Sequence[float]) -> None:
    """Raises a `ValueError` unless `costs` is a list of positive numbers."""
    numbers = costs if isinstance(costs, (list, tuple)) and costs else [0]
    if not all(isinstance(cost, (int, float)) and cost > 0 for cost in numbers):
        raise ValueError(
            f"{argument} must be a list of positive numbers. Received: {costs!r}"
        )


def check_jobs(argument: str, jobs: int | None) -> None:
    """Raises a `ValueError` unless `jobs` is None or a number of processes."""
    if jobs is not None:
        check_int(argument, jobs, 1)


def require_scikit_learn(name: str) -> None:
    """Raises a `ValueError` with the pip command if scikit-learn is missing."""
    try:
        import joblib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'{name} needs scikit-learn: pip install "byol_keras[benchmarks]". '
            f"Received: {error}"
        ) from error


def warn_of_unconverged(name: str, count: int) -> None:
    """Logs one warning with the number of SVMs that reached the last iteration."""
    if count:
        _logger.warning(
            "%s: %d SVMs stopped at %d iterations, before they converged.",
            name,
            count,
            LINEAR_SVC["max_iter"],
        )
