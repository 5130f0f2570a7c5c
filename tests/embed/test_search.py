"""Queries are read like the folder's images, and the most similar ones are found."""

import numpy as np
import pytest
from PIL import Image

from byol_keras import data
from byol_keras.embed import search
from byol_keras.embed.files import Block

from support import images as odd_images


def blocks(features, size):
    for start in range(0, len(features), size):
        part = features[start : start + size]
        yield Block([str(start + n) for n in range(len(part))], part)


def test_search_in_blocks_equals_search_in_all_embeddings():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    query = rng.normal(size=8).astype(np.float32)
    cosines = features @ query / np.linalg.norm(features, axis=1)
    cosines /= np.linalg.norm(query)
    found = search.most_similar(query, blocks(features, 7), 5)
    assert [int(name) for _, name in found] == np.argsort(-cosines)[:5].tolist()
    np.testing.assert_allclose([c for c, _ in found], np.sort(cosines)[::-1][:5], 1e-5)


def test_image_is_most_similar_to_itself_at_any_scale():
    features = np.eye(4, dtype=np.float32) * [[1], [9], [3], [0]]
    found = search.most_similar(
        np.array([0, 2, 0, 0], np.float32), blocks(features, 2), 9
    )
    assert found[0] == (pytest.approx(1.0), "1")
    assert [cosine for cosine, _ in found[1:]] == [0.0, 0.0, 0.0]


def test_very_similar_embeddings_are_distinguished():
    rng = np.random.default_rng(0)
    query = rng.normal(size=64)
    apart = np.arange(20)[::-1, None] * 1e-5 * rng.normal(size=64)
    features = (query + apart).astype(np.float32)
    found = search.most_similar(query.astype(np.float32), blocks(features, 7), 20)
    assert [int(name) for _, name in found] == list(range(20))[::-1]


def test_embeddings_of_another_length_are_refused():
    with pytest.raises(ValueError, match="the query's 3 dimensions"):
        search.most_similar(np.ones(3, np.float32), blocks(np.ones((2, 4)), 2), 1)


def test_picture_shows_the_query_and_its_neighbours(tmp_path):
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    colours = np.eye(3, dtype=np.float32)
    images = [np.broadcast_to(c, (16, 16, 3)) for c in colours]
    search.plot_neighbours(images[0], images[1:], ["0.9", "0.8"], tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    for colour in 255 * colours:
        assert (pixels == colour).all(axis=-1).sum() > 80 * 80


def test_query_is_read_with_the_channels_of_the_folder(tmp_path):
    files = {name: odd_images.ODD[name] for name in ("rgb.tif", "palette.png")}
    odd_images.write_all(tmp_path, files)
    grey = data.image_folder(tmp_path, channels=1)
    image = search.read_query(str(tmp_path / "rgb.tif"), grey)
    assert image.shape == (*odd_images.SIZE, 1)


def test_query_is_read_as_the_images_of_the_run(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(odd_images.gradient((20, 30)))
    image.save(tmp_path / "1.jpg", exif=exif)
    folder = data.image_folder(tmp_path)
    query = str(tmp_path / "1.jpg")
    assert search.read_query(query, folder).shape == (30, 20, 3)
    stored = search.read_query(query, folder, exif_orientation=False)
    assert stored.shape == (20, 30, 3)


def test_query_of_many_channels_is_read_from_an_array_file(tmp_path):
    pixels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.save(tmp_path / "x.npy", pixels)
    folder = data.image_folder(tmp_path)
    image = search.read_query(str(tmp_path / "x.npy"), folder)
    np.testing.assert_array_equal(image, pixels)


def test_error_on_an_unreadable_query_has_the_reason(tmp_path):
    odd_images.write_all(tmp_path, {"rgb.tif": odd_images.ODD["rgb.tif"]})
    odd_images.write_all(tmp_path, {"empty.jpg": odd_images.BROKEN["empty.jpg"]})
    folder = data.image_folder(tmp_path, max_bad_share=1.0)
    with pytest.raises(ValueError, match=r"query must be a readable image.*empty file"):
        search.read_query(str(tmp_path / "empty.jpg"), folder)
