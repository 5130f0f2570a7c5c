"""Top-k accuracy, one definition for all classification benchmarks."""

import numpy as np


def top_accuracy(
    scores: np.ndarray, labels: np.ndarray, top: int, tolerance: float = 0.0
) -> float:
    """Percent of rows whose label is among the `top` classes with the highest scores.

    Args:
        scores: `[N, classes]`: votes, logits or probabilities.
        labels: int `[N]`.
        top: int. Where classes of equal scores do not all fit, a row counts as the
            share of them that do: the mean over all orders of these classes. A row with
            NaN is wrong; a training that diverged gives such rows.
        tolerance: float. Scores that differ by at most this share of the label's count
            as equal.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    margin = tolerance * np.abs(own) if tolerance else 0.0
    above = (scores > own + margin).sum(axis=1)
    equal = (scores >= own - margin).sum(axis=1) - above
    hits = np.clip((top - above) / np.maximum(equal, 1), 0.0, 1.0)
    return 100.0 * float(np.mean(np.where(np.isnan(scores).any(axis=1), 0.0, hits)))
