"""Searches a file of embeddings for the images that are most similar to a query."""

import functools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from byol_keras.data import ImageData, array_files, image_files
from byol_keras.data.unreadable import flaw_of_file
from byol_keras.embed.files import Block
from byol_keras.preview.contact_sheet import displayed, require_matplotlib

# Added to norms, so that the cosine of an embedding of zeros is 0.
_TINY = 1e-12
_COLUMNS = 6


def read_query(query: str, like: ImageData, **reading: Any) -> np.ndarray:
    """Reads one image, uint8 `[h, w, C]`, with the channels of other images.

    Args:
        query: file of an image, or of an array in one of the formats of `array_files`.
        like: images whose channels to use.
        **reading: see `embed_folder.images_for`.

    Raises:
        ValueError: if the file cannot be read.
    """
    if query.lower().endswith(array_files.SUFFIXES):
        rows, examine = array_files.file_rows, array_files.flaw_of_array
    else:
        rows = functools.partial(image_files.file_rows, reading=reading)
        examine = flaw_of_file
    flaw = examine(query, like.channels)
    if flaw:
        raise ValueError(f"query must be a readable image. Received: {query} ({flaw})")
    (element,) = rows([query], None, like.channels).ordered()
    return like.decode(element["image"]).numpy()


def most_similar(
    query: np.ndarray, blocks: Iterable[Block], count: int
) -> list[tuple[float, str]]:
    """Cosine similarity and path of the most similar embeddings, in falling order.

    Args:
        query: float32 `[D]`.
        blocks: of embeddings; memory holds one at a time.
        count: int. Number of results, or all embeddings if there are fewer.

    Raises:
        ValueError: if the embeddings and the query differ in length.
    """
    # In float32 the cosines of very similar embeddings are all 1.
    query = query.astype(np.float64)
    query /= np.linalg.norm(query) + _TINY
    best = []
    for block in blocks:
        if block.features.shape[1] != len(query):
            raise ValueError(
                f"blocks must have the query's {len(query)} dimensions. "
                f"Received: {block.features.shape[1]}"
            )
        features = block.features.astype(np.float64)
        cosines = features @ query / (np.linalg.norm(features, axis=1) + _TINY)
        top = np.argsort(-cosines, kind="stable")[:count]
        best += [(float(cosines[i]), block.paths[i]) for i in top]
        # The sort is stable: equal cosines keep the order of the file.
        best = sorted(best, key=lambda pair: -pair[0])[:count]
    return best


def plot_neighbours(
    query: np.ndarray,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Writes a picture of a query and its most similar images.

    Args:
        query: float `[h, w, C]` in 0..1.
        images: likewise, the most similar first.
        captions: of the images.
        path: PNG file.

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
