"""Average precision of a ranking, by the three rules of published figures."""

import numpy as np


def average_precision(
    scores: np.ndarray, is_positive: np.ndarray, rule: str = "area"
) -> float:
    """Average precision of scored examples.

    Args:
        scores: float `[N]`. Ties are ranked in the order of the examples.
        is_positive: bool `[N]`.
        rule: one of `RULES`; see `average_precision_of_hits`.

    Returns:
        In 0..1.

    Raises:
        ValueError: if no example is positive, or `rule` is unknown.
    """
    ranking = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.asarray(is_positive, bool)[ranking]
    return average_precision_of_hits(hits, int(hits.sum()), rule)


def average_precision_of_hits(
    hits: np.ndarray, num_positives: int, rule: str = "area"
) -> float:
    """Average precision of a ranking whose correct answers are known.

    Args:
        hits: bool `[N]`, by descending score: whether the answer is correct. It may be
            empty.
        num_positives: int. Number of objects to find, found or not.
        rule: "area", all points: the area under the precision envelope; "11_points":
            the mean of the envelope at recalls of 0, 0.1, ..., 1, as mmdetection and
            detectron2 compute it; "11_points_exact": the same without their rounding.

    Returns:
        In 0..1.

    Raises:
        ValueError: if `num_positives` is 0 or below the number of hits, or `rule` is
            unknown.

    Source: PASCAL VOC's development kits: 11 points until 2009, all points since.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {tuple(RULES)}. Received: {rule!r}")
    found = np.cumsum(np.asarray(hits, bool))
    least = max(1, found[-1] if len(found) else 0)
    if num_positives < least:
        raise ValueError(
            f"num_positives must be {least} or more. Received: {num_positives}"
        )
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or beyond.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(RULES[rule](found, envelope, num_positives))


def _area(found, envelope, num_positives):
    # Recall grows only at hits, by 1 / num_positives each.
    is_hit = np.diff(found, prepend=0) > 0
    return envelope[is_hit].sum() / num_positives


def _eleven_points(found, envelope, num_positives):
    # As floats, the thresholds 0.3, 0.6 and 0.7 are slightly above the decimals, so
    # that a recall of 3/5 misses the threshold of 0.6. Published figures contain this.
    thresholds = 0.1 * np.arange(11)
    return _mean_at(np.searchsorted(found / num_positives, thresholds), envelope)


def _eleven_points_exact(found, envelope, num_positives):
    thresholds = np.arange(11) * num_positives
    return _mean_at(np.searchsorted(10 * found, thresholds), envelope)


def _mean_at(places, envelope):
    """Mean of the envelope at these places; 0 beyond its end."""
    return np.append(envelope, 0.0)[places].mean()


RULES = {
    "area": _area,
    "11_points": _eleven_points,
    "11_points_exact": _eleven_points_exact,
}
