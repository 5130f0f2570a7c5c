import math

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.monitoring import representation

SHAPES = [(24, 10), (10, 24)]


def features(shape=(24, 10), seed=0):
    """float32 features that are correlated and off-centre, as real ones are."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(shape[1], shape[1])) * 0.9 ** np.arange(shape[1])
    return (rng.normal(size=shape) @ mixing + 1.0).astype(np.float32)


def unit(x):
    x = x.astype(np.float64)
    return np.stack([row / math.sqrt(sum(row**2)) for row in x])


def pairs(x):
    return [(x[i], x[j]) for i in range(len(x)) for j in range(i)]


# Each written from its definition, element by element.
def expected_rankme(x):
    x = x.astype(np.float64)
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    p = singular / singular.sum() + 1e-7
    return math.exp(-sum(p * np.log(p)))


def expected_cosine(x):
    return np.mean([a @ b for a, b in pairs(unit(x))])


def expected_uniformity(x):
    distances = [np.sum((a - b) ** 2) for a, b in pairs(unit(x))]
    return math.log(np.mean([math.exp(-2.0 * d) for d in distances]))


def expected_alignment(x, y):
    return np.mean(
        [np.sum((a - b) ** 2) for a, b in zip(unit(x), unit(y), strict=True)]
    )


def expected_std(x):
    u = unit(x)
    variances = [np.mean((u[:, d] - np.mean(u[:, d])) ** 2) for d in range(u.shape[1])]
    return np.sqrt(variances) * math.sqrt(u.shape[1])


def expected_spectrum(x):
    values = np.linalg.eigvalsh(np.cov(x.astype(np.float64), rowvar=False))[::-1]
    return values[: min(x.shape)]


@pytest.mark.parametrize("shape", SHAPES)
def test_monitors_equal_their_definitions_in_float64(shape):
    x, y = features(shape), features(shape, seed=1)
    for ours, expected in (
        (representation.rankme(x), expected_rankme(x)),
        (representation.mean_cosine(x), expected_cosine(x)),
        (representation.uniformity(x), expected_uniformity(x)),
        (representation.alignment(x, y), expected_alignment(x, y)),
        (representation.dimension_std(x), expected_std(x)),
        (representation.spectrum(x), expected_spectrum(x)),
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-9)


def test_measure_gives_each_monitor_of_the_right_features():
    h1, h2, z1, z2, t1 = (features(seed=seed) for seed in range(5))
    eigenvalues = expected_spectrum(h1)
    readings = representation.measure(h1, h2, z1, z2, t1)
    slope = readings.pop("monitor/power_law_slope")
    assert slope == representation.power_law_slope(representation.spectrum(h1))
    assert readings == pytest.approx(
        {
            "monitor/rankme": expected_rankme(h1),
            "monitor/std": np.mean(expected_std(h1)),
            "monitor/cosine": expected_cosine(h1),
            "monitor/top_eigenvalue_share": eigenvalues[0] / sum(eigenvalues),
            "monitor/projection_rankme": expected_rankme(z1),
            "monitor/projection_std": np.mean(expected_std(z1)),
            "monitor/projection_cosine": expected_cosine(z1),
            "monitor/alignment": expected_alignment(z1, z2),
            "monitor/uniformity": expected_uniformity(z1),
            "monitor/target_distance": expected_alignment(z1, t1),
        },
        rel=1e-5,
    )


def test_orthogonal_features_are_spread_out_fully():
    x = 3.0 * np.eye(8)
    assert representation.rankme(x) == pytest.approx(8.0, rel=1e-5)
    assert representation.mean_cosine(x) == pytest.approx(0.0, abs=1e-12)
    assert representation.uniformity(x) == pytest.approx(
        -4.0
    )  # all squared distances are 2
    assert representation.power_law_slope(np.ones(8)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_one_direction_is_a_full_collapse(scale):
    x = scale * np.outer(np.arange(1, 9), [3.0, 4.0, 0.0])
    assert representation.rankme(x) == pytest.approx(1.0, abs=1e-5)
    assert representation.mean_cosine(x) == pytest.approx(scale)
    assert representation.uniformity(x) == pytest.approx(0.0, abs=1e-12)
    assert representation.dimension_std(x) == pytest.approx(np.zeros(3), abs=1e-12)
    assert representation.top_eigenvalue_share(
        representation.spectrum(x)
    ) == pytest.approx(1.0)


def test_mean_of_dimension_std_is_one_for_directions_without_preference():
    x = np.random.default_rng(0).normal(size=(4096, 16))
    assert np.mean(representation.dimension_std(x)) == pytest.approx(1.0, abs=0.01)


def test_opposite_vectors_are_four_apart():
    x = features()
    assert representation.alignment(x, -2.0 * x) == pytest.approx(4.0)
    assert representation.alignment(x, 2.0 * x) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("slope", [0.5, 1.5])
def test_power_law_is_found_below_rounding_and_cut_off(slope):
    eigenvalues = 7.0 * np.arange(1.0, 33.0) ** -slope
    eigenvalues[16:] = 0.0  # the smaller half takes no part
    assert representation.power_law_slope(eigenvalues) == pytest.approx(slope)
    eigenvalues[10:] = 1e-12
    assert representation.power_law_slope(eigenvalues) == pytest.approx(slope)


def test_power_law_of_a_single_direction_is_not_a_number():
    assert math.isnan(representation.power_law_slope([1.0, 0.0, 0.0, 0.0]))


def test_ema_horizon_of_the_paper_is_a_million_images():
    assert representation.ema_horizon(4096, 0.996) == pytest.approx(1_024_000)
    assert representation.ema_horizon(256, 0.0) == 256
    assert representation.ema_horizon(256, 1.0) == math.inf


def test_tensors_are_taken_like_arrays():
    x = features()
    assert representation.rankme(tf.constant(x)) == representation.rankme(x)


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((1, 3)), np.zeros((2, 3, 4))])
def test_features_of_another_shape_are_refused(x):
    with pytest.raises(ValueError, match=r"features must be `\[N, D\]`.*Received"):
        representation.rankme(x)


SPREAD_OUT = {"monitor/projection_std": 0.8, "monitor/projection_rankme": 70.0}


@pytest.mark.parametrize(
    ("std", "rank", "expected"),
    [
        (0.8, 70.0, "healthy"),
        (0.41, 8.5, "healthy"),
        (0.39, 8.5, "shrinking"),
        (0.41, 8.3, "shrinking"),
        (0.8, 2.1, "shrinking"),
        (0.8, 1.9, "collapsed"),
        (0.101, 70.0, "shrinking"),
        (0.099, 70.0, "collapsed"),
    ],
)
def test_verdict_is_that_of_spread_and_rank_against_the_start(std, rank, expected):
    latest = {"monitor/projection_std": std, "monitor/projection_rankme": rank}
    assert representation.verdict(SPREAD_OUT, latest) == expected


def test_features_that_are_not_finite_have_collapsed():
    assert representation.verdict(SPREAD_OUT, {}) == "collapsed"
