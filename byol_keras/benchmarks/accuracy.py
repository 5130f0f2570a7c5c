"""Top-k accuracy, one definition for all classification benchmarks."""

import numpy as np


def top_accuracy(scores: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Percent of rows whose label is among the `top` classes with the highest scores.

    Args:
        scores: `[N, classes]`: votes, logits or probabilities.
        labels: int `[N]`.
        top: int. Ties are broken in favour of the lower class number. A row with NaN
            is wrong; a training that diverged gives such rows.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    hits = np.any(ranked == labels[:, None], axis=1) & ~np.isnan(scores).any(axis=1)
    return 100.0 * float(np.mean(hits))
