"""Linear SVMs, one class against the rest: what the SVM benchmarks share."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from absl import logging
from rich import progress

from byol_keras.benchmarks.average_precision import average_precision
from byol_keras.runtime.argument_checks import check_int

# Of equally good costs the earlier one is taken.
# Source: mmselfsup 0.x, svm_helper.py.
COSTS = (1.0, 10.0, 100.0, *(0.5**power for power in range(4, 20)))

# Source: mmselfsup 0.x, train_svm_kfold_parallel.py.
# Deviation: a fixed `random_state`, which orders the coordinate descent, so that an SVM
# that stops before it has converged is the same in the next run.
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
    """Results of `task(*call)` for every call, in order, while a bar shows progress.

    Arrays above 1 MB are not sent to the processes; all of them map one file.

    Args:
        jobs: int. Processes; None for one per core, 1 for none but this one.
        description: what the bar is called.
    """
    from joblib import Parallel, delayed

    parallel = Parallel(-1 if jobs is None else jobs, return_as="generator")
    results = parallel(delayed(task)(*call) for call in calls)
    return progress.track(results, description, len(calls), transient=True)


def known_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Average precision of one class without the images to be ignored.

    Args:
        scores: float `[N]`.
        targets: `[N]`: 1, 0, or -1 where the class is to be ignored.
    """
    known = targets != -1
    return average_precision(scores[known], targets[known] == 1)


def unit_length(features: np.ndarray) -> np.ndarray:
    """float64 `[N, D]`: each row by its norm plus 1e-5.

    Source: mmselfsup 0.x, svm_helper.py.
    """
    features = np.array(features, np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-5
    return features


def class_targets(train_data, test_data, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both splits as one question per class.

    Args:
        train_data, test_data: `ImageData` with one label per image or several.
        name: the benchmark's, for messages.

    Returns:
        int8 `[N, classes]` and `[M, classes]`: 1, 0, or -1 where a class is to be
        ignored.

    Raises:
        ValueError: if the splits are not of the same classes or unlabelled, or a class
            has no test image.
    """
    train, test = (_targets(data) for data in (train_data, test_data))
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{name}.test_data must have the {train.shape[1]} classes of train_data. "
            f"Received: {test.shape[1]} in {test_data.name}"
        )
    check_counts(f"{name}.test_data", test_data, test == 1, 1)
    return train, test


def _targets(data):
    labels = data.labels()
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(len(data.class_names))
    return labels.astype(np.int8)


def check_counts(
    argument: str, data, belongs: np.ndarray, least: int, relation: str = "of"
) -> None:
    """Raises a ValueError if a column of bool `[N, classes]` has too few True."""
    counts = belongs.sum(axis=0)
    place = int(np.argmin(counts))
    if counts[place] < least:
        raise ValueError(
            f"{argument} must have {least} or more images {relation} every class. "
            f"Received: {counts[place]} {relation} {data.class_names[place]!r} in "
            f"{data.name}"
        )


def check_costs(argument: str, costs: Sequence[float]) -> None:
    """Raises a ValueError for anything but a list of positive numbers."""
    numbers = costs if isinstance(costs, (list, tuple)) and costs else [0]
    if not all(isinstance(cost, (int, float)) and cost > 0 for cost in numbers):
        raise ValueError(
            f"{argument} must be a list of positive numbers. Received: {costs!r}"
        )


def check_jobs(argument: str, jobs: int | None) -> None:
    """Raises a ValueError for anything but a number of processes or None."""
    if jobs is not None:
        check_int(argument, jobs, 1)


def require_scikit_learn(name: str) -> None:
    """Raises a ValueError with the command that installs what is missing."""
    try:
        import joblib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'{name} needs scikit-learn: pip install "byol_keras[benchmarks]". '
            f"Received: {error}"
        ) from error


def warn_of_unconverged(name: str, count: int) -> None:
    """Says once how many SVMs stopped at the last iteration that they may take."""
    if count:
        logging.warning(
            "%s: %d SVMs stopped at %d iterations, before they converged.",
            name,
            count,
            LINEAR_SVC["max_iter"],
        )
