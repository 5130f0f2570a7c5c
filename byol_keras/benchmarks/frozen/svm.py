"""VOC07 classification: linear SVMs on frozen features, one class against the rest."""

import re
import warnings
from collections.abc import Callable, Sequence

import gin
import keras
import numpy as np

from byol_keras.benchmarks.frozen.features import extract_all
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
from byol_keras.runtime.argument_checks import check_choice, check_int


@gin.register(module="byol_keras")
def svm(
    backbone: keras.Model,
    train_data=gin.REQUIRED,
    test_data=gin.REQUIRED,
    transform: Callable | None = None,
    features: Sequence[str] = ("pooled1", "pooled2", "pooled3", "pooled4", "pooled5"),
    costs: Sequence[float] = COSTS,
    folds: int = 3,
    jobs: int | None = None,
    batch_size: int = 256,
    leave_out_classes: bool = False,
) -> dict[str, float]:
    """Mean average precision of one linear SVM per class, for each feature.

    The cost of a class is chosen by cross-validated average precision on the training
    images; its SVM is then fitted to all of them. Images with a label to ignore are
    negatives in training, and are left out of the test.

    Args:
        backbone: float32 `[B, H, W, C]` in 0..1 -> dict of features.
        train_data, test_data: `ImageData` with labels, one or several per image.
        transform: see `features.extract_all`.
        features: names; see `features.read_feature`.
        costs: values of the SVM's C, tried for every class. Defaults to the 19
            published.
        folds: int. Of the cross-validation, stratified and not shuffled.
        jobs: int. Processes, with one class each. None uses all cores. Each needs about
            three times the memory of one feature of the training images in float64.
        batch_size: int. Images per forward pass.
        leave_out_classes: bool. Whether classes with too few images are left out, and
            named in the record, for small subsets of a data set.

    Returns:
        In percent: `svm/<layer>_mAP` for every feature, where the layer of `pooled5` is
        `feature5` as in the published table, and `svm/best_mAP`, the best of them on
        the test images. Average precision follows the rule "area".

    Raises:
        ValueError: if scikit-learn is missing; if a class has fewer than `folds`
            training images, or outside of it, or no test image; for wrong arguments.

    Source: mmselfsup 0.x, svm_voc07; the protocol is that of arXiv 1905.01235.
    Deviation: see `LINEAR_SVC`.
    """
    require_scikit_learn("svm")
    layers = _layers(features)
    check_costs("svm.costs", costs)
    check_int("svm.folds", folds, 2)
    check_jobs("svm.jobs", jobs)
    check_choice("svm.leave_out_classes", leave_out_classes, (False, True))
    train_data, test_data = train_data.readable(), test_data.readable()
    classes = _classes(train_data, test_data, folds, leave_out_classes)
    read = {"transform": transform, "batch_size": batch_size}
    train = extract_all(backbone, train_data, features, **read)
    test = extract_all(backbone, test_data, features, **read)
    fit, results, stopped = cross_validated_svm(costs, folds), {}, 0
    for feature, layer in layers.items():
        precisions, unconverged = _class_precisions(
            fit,
            *(prepared(found[feature], train_data, classes) for found in (train, test)),
            jobs,
            f"SVMs of {layer}",
        )
        results[f"svm/{layer}_mAP"] = 100.0 * float(np.mean(precisions))
        stopped += unconverged
    warn_of_unconverged("svm", stopped)
    return results | {"svm/best_mAP": max(results.values())}


def _layers(features):
    """Feature -> name of its layer in the results."""
    wanted = features if isinstance(features, (list, tuple)) else ()
    names = {str(name): re.sub("^pooled", "feature", str(name)) for name in wanted}
    if not names or len(set(names.values())) < len(features):
        raise ValueError(
            "svm.features must be a list of distinct features, as ['pooled5']. "
            f"Received: {features!r}"
        )
    return names


def _classes(train_data, test_data, folds, leave_out):
    """Places of the classes to score."""
    train, test = class_targets(train_data, test_data, "svm")
    argument = "svm.train_data"
    needs = [
        Need("svm.test_data", test_data, test == 1, 1),
        Need(argument, train_data, train == 1, folds),
        Need(argument, train_data, train != 1, folds, "outside"),
    ]
    return scored_classes("svm", needs, leave_out)


def _class_precisions(fit, train, test, jobs, description):
    """Average precision of each class, and the number of SVMs that did not converge."""
    # Labels to ignore count as negative here, as in the reference.
    signs = np.where(train.labels.T == 1, 1, -1)
    calls = [(train.features, of_class) for of_class in signs]
    precisions, stopped = [], 0
    found = in_processes(fit, calls, jobs, description)
    for (model, unconverged), targets in zip(found, test.labels.T, strict=True):
        precisions.append(
            known_precision(model.decision_function(test.features), targets)
        )
        stopped += unconverged
    return precisions, stopped


def cross_validated_svm(costs: Sequence[float], folds: int) -> Callable:
    """A function that chooses the cost of one class and fits its SVM.

    Returns:
        Function of float64 `[N, D]` and signs `[N]`, 1 or -1, that returns the fitted
        `LinearSVC` and the number of SVMs that stopped before convergence.
    """

    # joblib pickles a nested function by value. With a function of this module, every
    # process would import this package, and TensorFlow with it.
    def fit(features, signs):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import cross_validate
        from sklearn.svm import LinearSVC

        precisions, fitted = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for cost in costs:
                found = cross_validate(
                    LinearSVC(C=cost, **LINEAR_SVC),
                    features,
                    signs,
                    cv=folds,
                    scoring="average_precision",
                    return_estimator=True,
                    error_score="raise",
                )
                precisions.append(np.mean(found["test_score"]))
                fitted += [model.n_iter_ for model in found["estimator"]]
            best = LinearSVC(C=costs[np.argmax(precisions)], **LINEAR_SVC)
            best.fit(features, signs)
        iterations = np.array([*fitted, best.n_iter_])
        return best, int(np.sum(iterations >= best.max_iter))

    return fit
