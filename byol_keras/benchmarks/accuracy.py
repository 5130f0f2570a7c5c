"""Top-k accuracy, one definition for all classification benchmarks."""

import numpy as np


def top_accuracy(scores: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Percent of rows whose label is among the `top` classes of highest score.

    Args:
        scores: `[N, classes]`: votes, logits or probabilities.
        labels: int `[N]`.
        top: int. Of equal scores the class of lower number comes first.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return 100.0 * float(np.mean(np.any(ranked == labels[:, None], axis=1)))
