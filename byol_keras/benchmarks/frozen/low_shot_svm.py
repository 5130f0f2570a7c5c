"""Low-shot VOC07 classification: linear SVMs on frozen features of few images."""

import warnings
from collections.abc import Callable, Sequence

import gin
import keras
import numpy as np

from byol_keras.benchmarks.frozen.features import extract_features
from byol_keras.benchmarks.frozen.linear_svms import (
    COSTS,
    LINEAR_SVC,
    Need,
    check_costs,
    check_jobs,
    class_targets,
    in_processes,
    known_precision,
    prepared,
    require_scikit_learn,
    scored_classes,
    warn_of_unconverged,
)
from byol_keras.runtime.argument_checks import check_choice, check_int, is_positive_int


@gin.register(module="byol_keras")
def low_shot_svm(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    ks: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 96),
    samples: int = 5,
    seed: int = 0,
    transform: Callable | None = None,
    feature: str = "pooled5",
    costs: Sequence[float] = COSTS,
    jobs: int | None = None,
    batch_size: int = 256,
    leave_out_classes: bool = False,
) -> dict[str, float]:
    """Mean average precision of SVMs trained on k images of each class.

    For each class, k of its images and k (classes - 1) others are drawn from the
    training images without replacement, or all others if there are fewer. An SVM is
    fitted to them at each cost. One cost is used for all classes and samples of a k. It
    is chosen in two ways:

    - without test images: by the mean average precision on the training images that
      were not drawn for the class. Classes whose images, or whose others, were all
      drawn are left out. This uses the labels of many training images, but no test
      label.
    - on the test images, as in the published figures, which this biases upwards.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        train_data, test_data: `ImageData` with labels, one or several per image.
        ks: ints. Images drawn from each class.
        samples: int. Independent draws for each k.
        seed: int. Each draw is a function of `(seed, k, sample, class)`.
        transform: see `features.extract_all`.
        feature: output of the backbone to use; see `features.read_feature`.
        costs: values of the SVM's C. Defaults to the 19 published.
        jobs: int. Processes. None uses all cores.
        batch_size: int. Images per forward pass.
        leave_out_classes: bool. Whether classes with too few images are left out, and
            named in the record, for small subsets of a data set.

    Returns:
        For each k, in percent: `low_shot_svm/k<k>_mAP`, the mean over the samples at
        the cost chosen without test images; `low_shot_svm/k<k>_mAP_std`, the standard
        deviation over the samples at that cost; and
        `low_shot_svm/k<k>_mAP_cost_chosen_on_test`, as published.

    Raises:
        ValueError: if scikit-learn is missing; if a class has fewer than max(ks)
            training images, no negative training image, or no test image; if a k leaves
            no class to choose the cost with; for wrong arguments.

    Source: mmselfsup 0.x, svm_voc07; the protocol is that of arXiv 1905.01235.
    Deviation: see `LINEAR_SVC`; the reference draws from an unseeded generator.
    """
    require_scikit_learn("low_shot_svm")
    _check_arguments(ks, samples, seed, costs, jobs)
    check_choice("low_shot_svm.leave_out_classes", leave_out_classes, (False, True))
    train_data, test_data = train_data.readable(), test_data.readable()
    classes = _classes(train_data, test_data, ks, leave_out_classes)
    read = {"transform": transform, "feature": feature, "batch_size": batch_size}
    train = extract_features(backbone, train_data, **read)
    test = extract_features(backbone, test_data, **read)
    train, test = (prepared(found, train_data, classes) for found in (train, test))
    results, stopped = {}, 0
    for k in ks:
        draws = [drawn_images(train.labels, k, seed, i) for i in range(samples)]
        held_out, tested, unconverged = _precisions(
            train, test, draws, costs, jobs, f"low-shot SVMs, k={k}"
        )
        results |= low_shot_metrics(k, held_out, tested)
        stopped += unconverged
    warn_of_unconverged("low_shot_svm", stopped)
    return results


def _check_arguments(ks, samples, seed, costs, jobs):
    if not (isinstance(ks, (list, tuple)) and ks and all(map(is_positive_int, ks))):
        raise ValueError(
            f"low_shot_svm.ks must be a list of positive ints. Received: {ks!r}"
        )
    check_int("low_shot_svm.samples", samples, 1)
    check_int("low_shot_svm.seed", seed, 0)
    check_costs("low_shot_svm.costs", costs)
    check_jobs("low_shot_svm.jobs", jobs)


def _classes(train_data, test_data, ks, leave_out):
    """Places of the classes to score."""
    train, test = class_targets(train_data, test_data, "low_shot_svm")
    argument = "low_shot_svm.train_data"
    needs = [
        Need("low_shot_svm.test_data", test_data, test == 1, 1),
        Need(argument, train_data, train == 1, max(ks)),
        Need(argument, train_data, train == 0, 1, "outside"),
    ]
    classes = scored_classes("low_shot_svm", needs, leave_out)
    _check_draws(train_data, train[:, classes], ks)
    return classes


def _check_draws(data, targets, ks):
    positives, others = (np.sum(targets == value, axis=0) for value in (1, 0))
    for k in ks:
        if not np.any((positives > k) & (others > k * (targets.shape[1] - 1))):
            raise ValueError(
                "low_shot_svm.ks must leave images of some class, and others, for the "
                f"choice of the cost. Received: {k} for {data.name}"
            )


def drawn_images(
    targets: np.ndarray, k: int, seed: int, sample: int
) -> list[np.ndarray]:
    """For each class, the places of the training images that its SVM is fitted to.

    Args:
        targets: `[N, classes]`: 1, 0, or -1 where the class is to be ignored.
        k: int. Number of images of the class; there are k (classes - 1) others, or all
            of them if there are fewer.
        seed, sample: int. Different pairs give independent draws.

    Returns:
        List of int64 arrays, each in ascending order.
    """
    drawn = []
    for place, of_class in enumerate(targets.T):
        rng = np.random.default_rng([seed, k, sample, place])
        positives, others = (np.flatnonzero(of_class == value) for value in (1, 0))
        num_others = min(k * (targets.shape[1] - 1), len(others))
        chosen = [
            rng.choice(positives, k, replace=False),
            rng.choice(others, num_others, replace=False),
        ]
        drawn.append(np.sort(np.concatenate(chosen)))
    return drawn


def _precisions(train, test, draws, costs, jobs, description):
    """Average precisions `[samples, classes, costs]` on held-out and on test images.

    Those of classes without held-out images are NaN. The third result is the number of
    SVMs that stopped before convergence.
    """
    signs = np.where(train.labels == 1, 1, -1)
    cells = [(c, places) for draw in draws for c, places in enumerate(draw)]
    calls = [(train.features, places, signs[places, c]) for c, places in cells]
    held_out, tested, stopped = [], [], 0
    found = in_processes(svms_of_costs(costs), calls, jobs, description)
    for (c, places), (weights, biases, unconverged) in zip(cells, found, strict=True):
        undrawn = train.labels[:, c].copy()
        undrawn[places] = -1
        if {0, 1} <= set(undrawn):
            scores = train.features @ weights + biases
            held_out.append([known_precision(x, undrawn) for x in scores.T])
        else:
            held_out.append([np.nan] * len(costs))
        scores = test.features @ weights + biases
        tested.append([known_precision(x, test.labels[:, c]) for x in scores.T])
        stopped += unconverged
    shape = (len(draws), train.labels.shape[1], len(costs))
    return np.reshape(held_out, shape), np.reshape(tested, shape), stopped


def svms_of_costs(costs: Sequence[float]) -> Callable:
    """A function that fits one SVM per cost to some of the images.

    Returns:
        Function of float64 `[N, D]`, places `[n]` and signs `[n]`, 1 or -1, that
        returns weights `[D, costs]`, biases `[costs]` and the number of SVMs that
        stopped before convergence.
    """

    # Nested for the reason given in `svm.cross_validated_svm`.
    def fit(features, places, signs):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        some = features[places]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = [LinearSVC(C=c, **LINEAR_SVC).fit(some, signs) for c in costs]
        weights = np.concatenate([model.coef_ for model in fitted]).T
        biases = np.concatenate([model.intercept_ for model in fitted])
        return weights, biases, sum(m.n_iter_ >= m.max_iter for m in fitted)

    return fit


def low_shot_metrics(
    k: int, held_out: np.ndarray, tested: np.ndarray
) -> dict[str, float]:
    """The metrics of one k, in percent; see `low_shot_svm`.

    Args:
        held_out: average precisions `[samples, classes, costs]` on training images that
            were not drawn; NaN for a class without such images.
        tested: the same on the test images.
    """
    of_samples = 100.0 * tested.mean(axis=1)
    chosen = of_samples[:, np.argmax(np.nanmean(held_out, axis=(0, 1)))]
    name = f"low_shot_svm/k{k}_mAP"
    return {
        name: float(chosen.mean()),
        f"{name}_std": float(chosen.std()),
        f"{name}_cost_chosen_on_test": float(of_samples.mean(axis=0).max()),
    }
