"""Pooling of feature maps: published sizes and known means."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks.frozen.pooling import pool_feature


@pytest.mark.parametrize(
    ("level", "side", "channels", "grid", "numbers"),
    [
        (1, 112, 64, 12, 9216),
        (2, 56, 256, 6, 9216),
        (3, 28, 512, 4, 8192),
        (4, 14, 1024, 3, 9216),
        (5, 7, 2048, 2, 8192),
    ],
)
def test_pooled_sizes_are_the_published_ones(level, side, channels, grid, numbers):
    pooled = pool_feature(tf.ones([1, side, side, channels]), level)
    assert pooled.shape == (1, grid, grid, channels)
    assert pooled[0].shape.num_elements() == numbers


def test_border_cells_of_feature1_are_scaled_by_0_6():
    pooled = pool_feature(tf.ones([1, 112, 112, 1]), 1)[0, :, :, 0].numpy()
    row = np.array([0.6, *[1.0] * 10, 0.6])
    np.testing.assert_allclose(pooled, np.outer(row, row), rtol=1e-6)


def test_cells_are_the_means_of_their_windows():
    maps = np.random.default_rng(0).normal(size=(2, 28, 28, 3)).astype(np.float32)
    pooled = pool_feature(tf.constant(maps), 3).numpy()
    expected = maps[:, 5:18, 15:28].mean(axis=(1, 2))
    np.testing.assert_allclose(pooled[:, 1, 3], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("level", "grid"), [(1, 12), (2, 6), (3, 4), (4, 3), (5, 2)])
def test_maps_of_other_sizes_are_pooled_to_the_same_grid(level, grid):
    maps = np.random.default_rng(0).normal(size=(1, 17, 20, 2)).astype(np.float32)
    pooled = pool_feature(tf.constant(maps), level).numpy()
    assert pooled.shape == (1, grid, grid, 2)
    first = maps[:, : -(-17 // grid), : -(-20 // grid)].mean(axis=(1, 2))
    np.testing.assert_allclose(pooled[:, 0, 0], first, rtol=1e-4, atol=1e-6)


def test_maps_smaller_than_the_grid_are_not_changed():
    maps = np.random.default_rng(0).normal(size=(1, 3, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(pool_feature(tf.constant(maps), 2), maps, rtol=1e-6)


def test_unknown_level_is_refused():
    with pytest.raises(ValueError, match=r"level must be in .*Received: 6"):
        pool_feature(tf.ones([1, 7, 7, 1]), 6)
