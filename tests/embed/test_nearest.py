"""Neighbours by the cosine are those of all embeddings at once."""

import numpy as np
import pytest

from byol_keras.embed import nearest
from byol_keras.embed.files import Block


def blocks(features, size):
    for start in range(0, len(features), size):
        part = features[start : start + size]
        yield Block([str(start + n) for n in range(len(part))], part)


def test_neighbours_over_blocks_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    query = rng.normal(size=8).astype(np.float32)
    cosines = features @ query / np.linalg.norm(features, axis=1)
    cosines /= np.linalg.norm(query)
    found = nearest.nearest(query, blocks(features, 7), 5)
    assert [int(name) for _, name in found] == np.argsort(-cosines)[:5].tolist()
    np.testing.assert_allclose([c for c, _ in found], np.sort(cosines)[::-1][:5], 1e-5)


def test_nearest_is_the_image_itself_whatever_its_scale():
    features = np.eye(4, dtype=np.float32) * [[1], [9], [3], [0]]
    found = nearest.nearest(np.array([0, 2, 0, 0], np.float32), blocks(features, 2), 9)
    assert found[0] == (pytest.approx(1.0), "1")
    assert [cosine for cosine, _ in found[1:]] == [0.0, 0.0, 0.0]


def test_embeddings_that_are_much_alike_are_told_apart():
    rng = np.random.default_rng(0)
    query = rng.normal(size=64)
    apart = np.arange(20)[::-1, None] * 1e-5 * rng.normal(size=64)
    features = (query + apart).astype(np.float32)
    found = nearest.nearest(query.astype(np.float32), blocks(features, 7), 20)
    assert [int(name) for _, name in found] == list(range(20))[::-1]


def test_embeddings_of_another_length_are_refused():
    with pytest.raises(ValueError, match="the query's 3 dimensions"):
        nearest.nearest(np.ones(3, np.float32), blocks(np.ones((2, 4)), 2), 1)


def test_picture_holds_the_query_and_its_neighbours(tmp_path):
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    colours = np.eye(3, dtype=np.float32)
    images = [np.broadcast_to(c, (16, 16, 3)) for c in colours]
    nearest.draw(images[0], images[1:], ["0.9", "0.8"], tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    for colour in 255 * colours:
        assert (pixels == colour).all(axis=-1).sum() > 80 * 80
