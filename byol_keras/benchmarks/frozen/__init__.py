"""Benchmarks of frozen features: kNN, linear, logistic, SVM."""
