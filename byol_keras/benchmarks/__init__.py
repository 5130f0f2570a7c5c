"""Benchmarks: functions from a backbone and its data to numbers.

Importing the package registers every benchmark for gin: one file, one import here.
"""

from byol_keras.benchmarks.knn import knn

__all__ = ["knn"]
