"""Images for exported networks, and a comparison of their outputs."""

import numpy as np

IMAGES = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)


def assert_close(found, expected, limit=1e-4):
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[name] / scale, value / scale, atol=limit)
