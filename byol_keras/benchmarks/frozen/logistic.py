"""Linear transfer: logistic regression on frozen features by L-BFGS."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence

import gin
import keras
import numpy as np

from byol_keras.benchmarks.frozen.features import Features, extract_features
from byol_keras.benchmarks.frozen.linear_svms import (
    check_costs,
    require_scikit_learn,
)
from byol_keras.benchmarks.splits import check_splits, split_places
from byol_keras.runtime.argument_checks import check_int
from byol_keras.runtime.progress import tracked

# 45 strengths from 1e-6 to 1e5, evenly spaced in their logarithm.
# Source: arXiv 2006.07733 appendix D.2.
L2_STRENGTHS = tuple(float(strength) for strength in np.logspace(-6, 5, 45))

_SMALL = 2**25  # numbers in a matrix of features
_logger = logging.getLogger("byol_keras")


@gin.register(module="byol_keras")
def logistic(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    transform: Callable | None = None,
    l2: Sequence[float] = L2_STRENGTHS,
    validation_data=None,
    feature: str = "avgpool",
    batch_size: int = 256,
    max_iterations: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy of L2-regularized logistic regression on images without augmentation.

    For every strength, in descending order, weights W and intercepts minimize

        sum over examples of cross-entropy + l2 / 2 |W|²

    starting from the previous solution. Intercepts are not regularized. The strength
    with the best validation accuracy is chosen, the larger one of a tie. The last fit
    starts from zero and uses training and validation examples. Test labels are read
    once, for that fit.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features, or `[B, D]`.
        train_data, test_data: `ImageData` with one label per image.
        transform: see `features.extract_all`.
        l2: positive strengths. scikit-learn's `C` is 1 / l2.
        validation_data: to choose the strength on. None takes a fifth of each class of
            `train_data`.
        feature: output of the backbone to use; see `features.read_feature`.
        batch_size: int. Images per forward pass.
        max_iterations: int. Of L-BFGS, per fit. One warning counts the fits that reach
            it.
        seed: int. Of the validation split.

    Returns:
        `logistic/top1`, `logistic/mean_per_class_top1` (mean over the classes of the
        test data) and `logistic/validation_top1`, in percent, and `logistic/l2`.

    Raises:
        ValueError: if scikit-learn is missing, a strength or `max_iterations` is not
            positive, an image has several labels, or a split has a single class.

    Source: arXiv 2006.07733 appendix D.2.
    Deviation: the paper does not say whether its loss is a sum or a mean; the sum is
        scikit-learn's. Two classes have one logistic unit, not two.
    """
    require_scikit_learn("logistic")
    check_costs("logistic.l2", l2)
    check_int("logistic.max_iterations", max_iterations, 1)
    check_splits(
        "logistic", train_data, validation_data=validation_data, test_data=test_data
    )

    def read(data):
        return _read(backbone, data, transform, feature, batch_size)

    train, test = read(train_data), read(test_data)
    if validation_data is None:
        everything = train
        train, validation = (_at(train, p) for p in split_places(train.labels, seed))
    else:
        validation = read(validation_data)
        everything = Features(*map(np.concatenate, zip(train, validation, strict=True)))

    with _one_convergence_warning(max_iterations), _few_threads(everything.features):
        strength, validation_top1 = _best_strength(
            train, validation, l2, max_iterations
        )
        model = _regression(max_iterations, C=1.0 / strength).fit(*everything)
    correct = model.predict(test.features) == test.labels
    by_class = [np.mean(correct[test.labels == c]) for c in np.unique(test.labels)]
    return {
        "logistic/top1": 100.0 * float(np.mean(correct)),
        "logistic/mean_per_class_top1": 100.0 * float(np.mean(by_class)),
        "logistic/validation_top1": validation_top1,
        "logistic/l2": strength,
    }


def _read(backbone, data, transform, feature, batch_size) -> Features:
    """Features as float64, since L-BFGS does not converge in float32, and labels."""
    found = extract_features(backbone, data, transform, feature, batch_size)
    if found.labels.ndim != 1 or len(np.unique(found.labels)) < 2:
        raise ValueError(
            "data must have one label per image, and images of two or more classes. "
            f"Received: {data.name}, with labels of shape {found.labels.shape}"
        )
    return Features(found.features.astype(np.float64), found.labels)


def _at(features, places):
    return Features(features.features[places], features.labels[places])


def _regression(max_iterations, **settings):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="lbfgs", max_iter=max_iterations, **settings)


def _best_strength(train, validation, l2, max_iterations):
    """The strength with the best validation accuracy, and that accuracy in percent."""
    # Solutions of neighboring strengths are close, so each fit starts from the last.
    model = _regression(max_iterations, warm_start=True)
    accuracies = {}
    for strength in tracked(sorted(l2, reverse=True), "logistic regression"):
        model.set_params(C=1.0 / strength).fit(*train)
        accuracies[strength] = 100.0 * model.score(*validation)
    best = max(accuracies, key=accuracies.get)
    return float(best), float(accuracies[best])


def _few_threads(features):
    """One thread for small matrices, where more threads only wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if features.size < _SMALL else None)


@contextlib.contextmanager
def _one_convergence_warning(max_iterations: int) -> Iterator[None]:
    """Replaces scikit-learn's warnings, one per fit, by one warning with a count."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    unconverged = 0
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            unconverged += 1
        else:
            warnings.warn(warning.message, stacklevel=3)
    if unconverged:
        _logger.warning(
            "%d fits of the logistic regression did not converge within "
            "logistic.max_iterations=%d",
            unconverged,
            max_iterations,
        )
