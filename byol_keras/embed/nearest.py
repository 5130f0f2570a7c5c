"""The nearest neighbours of an image among embeddings, by the cosine."""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from byol_keras.embed.files import Block
from byol_keras.preview.contact_sheet import displayed, require_matplotlib

# Added to norms, so that an embedding of zeros has the cosine 0.
_TINY = 1e-12
_COLUMNS = 6


def nearest(
    query: np.ndarray, blocks: Iterable[Block], count: int
) -> list[tuple[float, str]]:
    """Cosine and path of the nearest embeddings, the nearest first.

    Args:
        query: float32 `[D]`.
        blocks: of embeddings, one of which is in memory at a time.
        count: int. So many are returned, or all if there are fewer.

    Raises:
        ValueError: if the embeddings have another length than the query.
    """
    # In float32, the cosines of embeddings that are much alike are all 1.
    query = query.astype(np.float64)
    query /= np.linalg.norm(query) + _TINY
    best = []
    for block in blocks:
        if block.features.shape[1] != len(query):
            raise ValueError(
                f"embeddings must have the query's {len(query)} dimensions. "
                f"Received: {block.features.shape[1]}"
            )
        features = block.features.astype(np.float64)
        cosines = features @ query / (np.linalg.norm(features, axis=1) + _TINY)
        top = np.argsort(-cosines, kind="stable")[:count]
        best += [(float(cosines[i]), block.paths[i]) for i in top]
        # Equal ones stay in stored order.
        best = sorted(best, key=lambda pair: -pair[0])[:count]
    return best


def draw(
    query: np.ndarray,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Writes a picture of an image and of those that are nearest to it.

    Args:
        query: float `[h, w, C]` in 0..1.
        images: likewise, the nearest first.
        captions: of the images.
        path: of the PNG.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    shown = [(query, "query"), *zip(images, captions, strict=True)]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(2.0 * _COLUMNS, 2.3 * rows), dpi=90)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    for axes, (image, caption) in zip(grid, shown, strict=False):
        axes.imshow(displayed(image))
        axes.set_title(caption, fontsize=8)
    figure.savefig(path)
