"""Label-free measures of a representation: pure functions of features, in float64.

The functions take arrays of a few hundred features and return numbers; networks and
devices do not occur here. `CollapseDoctor` calls `measure` while BYOL trains.
"""

import numpy as np

# Thresholds for projections, from good and bad runs such as those in
# experiments/method_resnet18_12e, which start with an effective rank of 72. Its recipe
# keeps a std of at least 0.80; the rank falls to 13 (a share of 0.18) and then grows
# again. With a randomly initialized target the rank falls to 11 (0.16).
# Without a predictor, 100 steps leave a std of 0.03 and a rank of 2.4. 10 times the
# learning rate and 100 times the weight decay keep the std, but the share of the rank
# falls to 0.06 and 0.09.
COLLAPSED_STD = 0.1
COLLAPSED_RANK = 2.0
SHRINKING_STD_SHARE = 0.5
SHRINKING_RANK_SHARE = 0.12
VERDICTS = ("healthy", "shrinking", "collapsed")
# As in the paper: keeps the entropy finite if a singular value is 0.
_RANKME_EPSILON = 1e-7
# Eigenvalues below this share of the largest are rounding errors of float32.
_SMALLEST_SHARE = 1e-10


def dimension_std(features) -> np.ndarray:
    """Standard deviation of every dimension of the unit vectors, times sqrt(D).

    The mean is near 1 for evenly spread directions and 0 for a single direction.

    Args:
        features: `[N, D]`, any real dtype.

    Returns:
        float64 `[D]`, at least 0; their root mean square is at most 1.

    Source: Chen and He 2021, arXiv 2011.10566, §4.1.
    """
    unit = _unit(features)
    return np.std(unit, axis=0) * np.sqrt(unit.shape[1])


def rankme(features) -> float:
    """Effective rank: the exponential of the entropy of the singular values.

    Args:
        features: `[N, D]`, any real dtype. Not centred, as in the paper.

    Returns:
        float in 1..min(N, D); 1 if all features are 0.

    Source: Garrido et al. 2023, arXiv 2210.02885, eq. 1.
    """
    values = np.linalg.svd(_matrix(features), compute_uv=False)
    total = np.sum(values)
    if total == 0.0:
        return 1.0
    share = values / total + _RANKME_EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))


def mean_cosine(features) -> float:
    """Mean cosine between the features of two different images.

    Args:
        features: `[N, D]` with N at least 2, any real dtype.

    Returns:
        float in -1..1; 1 for a representation that has collapsed to one direction.
    """
    unit = _unit(features)
    count = len(unit)
    # The sum over all pairs is the squared length of the sum of the unit vectors.
    pairs = np.sum(np.sum(unit, axis=0) ** 2) - np.sum(unit**2)
    return float(pairs / (count * (count - 1)))


def alignment(first, second) -> float:
    """Mean squared distance between the unit vectors of two views of the same images.

    Args:
        first: `[N, D]`, any real dtype.
        second: `[N, D]`, any real dtype; row i of both belongs to image i.

    Returns:
        float in 0..4.

    Source: Wang and Isola 2020, arXiv 2005.10242, §4.1, with alpha = 2.
    """
    return float(np.mean(np.sum((_unit(first) - _unit(second)) ** 2, axis=1)))


def uniformity(features) -> float:
    """Logarithm of the mean Gaussian potential of pairs of unit vectors.

    Args:
        features: `[N, D]` with N at least 2, any real dtype.

    Returns:
        float in -8..0; 0 for a single direction, lower values for a more even spread.

    Source: Wang and Isola 2020, arXiv 2005.10242, §4.1, with t = 2.
    """
    unit = _unit(features)
    lengths = np.sum(unit**2, axis=1)
    squared_distances = lengths[:, None] + lengths[None, :] - 2.0 * unit @ unit.T
    potentials = np.exp(-2.0 * np.maximum(squared_distances, 0.0))
    return float(np.log(np.mean(potentials[np.triu_indices(len(unit), k=1)])))


def spectrum(features) -> np.ndarray:
    """Eigenvalues of the covariance of the features in descending order.

    Args:
        features: `[N, D]` with N at least 2, any real dtype.

    Returns:
        float64 `[min(N, D)]`, at least 0.
    """
    matrix = _matrix(features)
    centred = matrix - np.mean(matrix, axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    return values**2 / (len(matrix) - 1)


def top_eigenvalue_share(eigenvalues) -> float:
    """Share of the variance in the direction of the largest eigenvalue.

    Args:
        eigenvalues: `[K]`, the largest first; as `spectrum` returns.

    Returns:
        float in 0..1; 1 if there is no variance.
    """
    total = np.sum(eigenvalues)
    return float(eigenvalues[0] / total) if total > 0.0 else 1.0


def power_law_slope(eigenvalues) -> float:
    """The exponent a of the power law eigenvalue_k ~ k^-a, by least squares of logs.

    Fits the larger half of the eigenvalues, since the small number of images makes the
    others too small.

    Args:
        eigenvalues: `[K]`, the largest first; as `spectrum` returns.

    Returns:
        float; 0 for equal variance in all directions, near 1 for good representations
        of natural images, larger for fewer directions; nan for fewer than two.

    Source: Agrawal et al. 2022, arXiv 2202.05808, which fits the ranks 10 to 100.
    """
    values = np.asarray(eigenvalues, np.float64)
    values = values[: max(2, len(values) // 2)]
    values = values[values > _SMALLEST_SHARE * values[0]]
    if len(values) < 2:
        return float("nan")
    ranks = np.arange(1, len(values) + 1)
    return float(-np.polyfit(np.log(ranks), np.log(values), 1)[0])


def ema_horizon(batch_size: int, tau: float) -> float:
    """Number of images over which the target averages the online network.

    Args:
        batch_size: int. Images per optimizer step.
        tau: float in 0..1.

    Returns:
        batch_size / (1 - tau); infinite for tau = 1.
    """
    return batch_size / (1.0 - tau) if tau < 1.0 else float("inf")


def measure(h1, h2, z1, z2, target_z1) -> dict[str, float]:
    """All measures of two views of the same images, under their names in the logs.

    Args:
        h1, h2: `[N, D]`. Representations of both views.
        z1, z2: `[N, P]`. Projections of both views by the online network.
        target_z1: `[N, P]`. Projections of the first view by the target network.

    Returns:
        dict of floats. Of the representations: `monitor/rankme`, `monitor/std`,
        `monitor/cosine`, `monitor/top_eigenvalue_share`, `monitor/power_law_slope`.
        Of the projections: `monitor/projection_rankme`, `monitor/projection_std`,
        `monitor/projection_cosine`, `monitor/alignment`, `monitor/uniformity`, and
        `monitor/target_distance`, the mean squared distance between the unit vectors of
        both networks, 0..4.
    """
    eigenvalues = spectrum(h1)
    return {
        "monitor/rankme": rankme(h1),
        "monitor/std": float(np.mean(dimension_std(h1))),
        "monitor/cosine": mean_cosine(h1),
        "monitor/top_eigenvalue_share": top_eigenvalue_share(eigenvalues),
        "monitor/power_law_slope": power_law_slope(eigenvalues),
        "monitor/projection_rankme": rankme(z1),
        "monitor/projection_std": float(np.mean(dimension_std(z1))),
        "monitor/projection_cosine": mean_cosine(z1),
        "monitor/alignment": alignment(z1, z2),
        "monitor/uniformity": uniformity(z1),
        "monitor/target_distance": alignment(z1, target_z1),
    }


def verdict(first, latest) -> str:
    """Judges whether the directions of the projections are still spread out.

    Args:
        first: result of `measure` for the untrained networks.
        latest: result of `measure` now, for the same images; empty if features are not
            finite.

    Returns:
        One of `VERDICTS`.
    """
    std = latest.get("monitor/projection_std", 0.0)
    rank = latest.get("monitor/projection_rankme", 0.0)
    if std < COLLAPSED_STD or rank < COLLAPSED_RANK:
        return "collapsed"
    if std < SHRINKING_STD_SHARE * first.get(
        "monitor/projection_std", 0.0
    ) or rank < SHRINKING_RANK_SHARE * first.get("monitor/projection_rankme", 0.0):
        return "shrinking"
    return "healthy"


def _matrix(features):
    matrix = np.asarray(features, np.float64)
    if matrix.ndim != 2 or len(matrix) < 2:
        raise ValueError(
            "features must be `[N, D]` with N at least 2. "
            f"Received: shape {matrix.shape}"
        )
    return matrix


def _unit(features):
    matrix = _matrix(features)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    # A zero vector has no direction and stays zero.
    return matrix / np.where(lengths > 0.0, lengths, 1.0)
