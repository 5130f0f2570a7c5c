"""Average precision of a ranking, by the three rules of published figures."""

import numpy as np


def average_precision(
    scores: np.ndarray, is_positive: np.ndarray, rule: str = "area"
) -> float:
    """Average precision of scored examples.

    Args:
        scores: float `[N]`. Examples of equal scores share one threshold, so that their
            order does not matter: precision and recall are counted after the last one.
        is_positive: bool `[N]`.
        rule: one of `RULES`; see `average_precision_of_hits`.

    Returns:
        In 0..1.

    Raises:
        ValueError: if no example is positive, a score is NaN, or `rule` is unknown.

    Deviation: the published code ranks equal scores in the order of the examples.
    """
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise ValueError(
            f"scores must be numbers. Received: {np.isnan(scores).sum()} NaN of "
            f"{len(scores)}"
        )
    ranking = np.argsort(-scores, kind="stable")
    hits, ranked = np.asarray(is_positive, bool)[ranking], scores[ranking]
    last_of_score = np.append(ranked[1:] != ranked[:-1], True)
    return _precision_of_hits(hits, int(hits.sum()), rule, last_of_score)


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
    return _precision_of_hits(hits, num_positives, rule, slice(None))


def _precision_of_hits(hits, num_positives, rule, thresholds):
    """Average precision of the curve at some places of the ranking only."""
    if rule not in RULES:
        raise ValueError(f"rule must be one of {tuple(RULES)}. Received: {rule!r}")
    found = np.cumsum(np.asarray(hits, bool))
    least = max(1, found[-1] if len(found) else 0)
    if num_positives < least:
        raise ValueError(
            f"num_positives must be {least} or more. Received: {num_positives}"
        )
    precision = (found / np.arange(1, len(found) + 1))[thresholds]
    found = found[thresholds]
    # The best precision at this recall or beyond.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(RULES[rule](found, envelope, num_positives))


def _area(found, envelope, num_positives):
    # Each hit adds 1 / num_positives to the recall.
    return np.repeat(envelope, np.diff(found, prepend=0)).sum() / num_positives


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
