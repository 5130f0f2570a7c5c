"""Pooling of feature maps to about 9,000 numbers, as in the published benchmarks."""

import keras
import numpy as np
import tensorflow as tf

LEVELS = (1, 2, 3, 4, 5)
# Level -> side of the map at 224 pixels; size, stride and zero padding of the pooling;
# side of the result. Source: mmselfsup 0.x, resnet50_mhead_linear-8xb32-steplr-90e.
_PUBLISHED = {
    1: (112, (10, 10, 4), 12),
    2: (56, (16, 8, 0), 6),
    3: (28, (13, 5, 0), 4),
    4: (14, (8, 3, 0), 3),
    5: (7, (6, 1, 0), 2),
}


def pool_feature(maps: tf.Tensor, level: int) -> tf.Tensor:
    """Average-pools the maps of one stage to the grid of the published protocol.

    Args:
        maps: `[B, H, W, C]`, one of feature1 (stem) to feature5.
        level: int in 1..5. Number of the stage.

    Returns:
        `[B, S, S, C]` with S = 12, 6, 4, 3, 2 for levels 1 to 5: for a ResNet-50, 9216,
        9216, 8192, 9216, 8192 numbers. A side shorter than S is kept.

    Raises:
        ValueError: if `level` is not in 1..5, or height or width are not known.

    Source: mmselfsup 0.x `models/utils/multi_pooling.py`. Zeros of the padding count in
        the average, as in torch.
    Deviation: there is no published pooling for images of other sizes than 224 pixels;
        their maps are pooled adaptively to the same grid, as in torch.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be in {LEVELS}. Received: {level!r}")
    height, width = maps.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            f"maps must have a known height and width. Received: {tuple(maps.shape)}"
        )
    rows = _pooling_matrix(height, level).astype(
        keras.backend.standardize_dtype(maps.dtype)
    )
    columns = _pooling_matrix(width, level).astype(rows.dtype)
    return tf.einsum("sh,bhwc,tw->bstc", rows, maps, columns)


def _pooling_matrix(side: int, level: int) -> np.ndarray:
    """float `[S, side]`, whose rows average the pixels of one cell each."""
    published_side, window, cells = _PUBLISHED[level]
    if side == published_side:
        return _windows(side, *window)
    cells = min(cells, side)
    matrix = np.zeros((cells, side))
    for cell in range(cells):
        start, stop = cell * side // cells, -(-(cell + 1) * side // cells)
        matrix[cell, start:stop] = 1.0 / (stop - start)
    return matrix


def _windows(side, size, stride, padding):
    cells = (side + 2 * padding - size) // stride + 1
    matrix = np.zeros((cells, side))
    for cell in range(cells):
        start = cell * stride - padding
        matrix[cell, max(start, 0) : start + size] = 1.0 / size
    return matrix
