"""Benchmarks of frozen features: kNN, linear, logistic regression, SVM."""

from byol_keras.benchmarks.frozen.knn import knn
from byol_keras.benchmarks.frozen.linear import linear, linear_features, linear_sweep
from byol_keras.benchmarks.frozen.logistic import logistic
from byol_keras.benchmarks.frozen.low_shot_svm import low_shot_svm
from byol_keras.benchmarks.frozen.svm import svm

__all__ = [
    "features",
    "knn",
    "linear",
    "linear_features",
    "linear_sweep",
    "logistic",
    "low_shot_svm",
    "svm",
]
