"""Samples, neighbours and maps of a representation have known answers."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.report import representation
from byol_keras.report.representation import find_neighbours

from support.datasets import write


def mean_colour(size=(None, None), channels=3, feature5=True):
    """A backbone that represents an image by its mean colour."""
    images = keras.Input((*size, channels))
    outputs = {"avgpool": keras.layers.GlobalAveragePooling2D()(images)}
    if feature5:
        outputs["feature5"] = keras.layers.AveragePooling2D(2)(images)
    return keras.Model(images, outputs)


@pytest.fixture
def flat_images():
    """Ten images; all pixels of image n are 10 n, and its label is n % 2."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * 10
    return data.arrays(np.tile(images, (1, 8, 8, 3)), np.arange(10) % 2)


def take(source, shape=(8, 8, 3), count=10, backbone=None, pictures=3):
    backbone = backbone or mean_colour(channels=shape[-1])
    return representation.take_sample(backbone, source, shape, count, pictures, seed=0)


def test_sample_has_the_features_and_the_label_of_each_image(flat_images):
    sample = take(flat_images)
    numbers = sample.thumbnails[:, 0, 0, 0] // 10
    assert sorted(numbers) == list(range(10))
    np.testing.assert_allclose(sample.features[:, 0], numbers * 10 / 255.0, atol=1e-6)
    np.testing.assert_array_equal(sample.labels, numbers % 2)
    assert sample.pictures.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(sample.pictures, sample.thumbnails[:3])
    expected = np.broadcast_to(sample.features[:3, :1, None], (3, 4, 4))
    np.testing.assert_allclose(sample.activations, expected, atol=1e-6)


def test_sample_of_several_batches_is_no_larger_than_the_data(monkeypatch, flat_images):
    monkeypatch.setattr(representation, "BATCH_SIZE", 4)
    assert len(take(flat_images, count=6).features) == 6
    np.testing.assert_allclose(
        take(flat_images, count=99).features, take(flat_images, count=10).features
    )


def test_unreadable_images_are_left_out_and_none_is_there_twice(tmp_path):
    for number in range(6):
        pixels = np.full((8, 8, 3), 10 * number, np.uint8)
        write(tmp_path / f"{number}.png", tf.io.encode_png(pixels))
    source = data.image_folder(tmp_path, max_bad_share=0.5)
    write(tmp_path / "2.png", b"no image")
    sample = take(source, count=6)
    assert sorted(sample.thumbnails[:, 0, 0, 0] // 10) == [0, 1, 3, 4, 5]


def test_images_are_resized_for_the_backbone(flat_images):
    sample = take(flat_images, (4, 4, 3), backbone=mean_colour((4, 4)))
    assert sample.thumbnails.shape == (10, 4, 4, 3)
    sample = take(flat_images, (6, 4, 3), backbone=mean_colour((6, 4)))
    assert sample.thumbnails.shape == (10, 6, 4, 3)


def test_large_images_are_stored_small():
    images = np.full((2, 400, 200, 1), 77, np.uint8)
    sample = take(data.arrays(images), (400, 200, 1), pictures=1)
    assert sample.thumbnails.shape == (2, 96, 48, 1)
    assert sample.pictures.shape == (1, 192, 96, 1)
    assert set(np.unique(sample.thumbnails)) == {77}
    assert sample.labels is None


def test_backbone_that_returns_a_vector_has_no_activations(flat_images):
    images = keras.Input((8, 8, 3))
    vector = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    assert take(flat_images, backbone=vector).activations is None
    assert take(flat_images, backbone=mean_colour(feature5=False)).activations is None


def test_taking_a_sample_does_not_change_the_backbone(flat_images):
    images = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(images)
    backbone = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    before = backbone.get_weights()
    take(flat_images, backbone=backbone)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_neighbours_are_the_most_similar_other_images():
    angles = np.deg2rad([0.0, 10.0, 25.0, 90.0])
    features = 5.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = find_neighbours(features, np.array([0, 0, 1, 1]), 2)
    assert found.places.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_allclose(found.similarities[0], np.cos(angles[1:3]))
    np.testing.assert_allclose(found.agreement, [0.5, 0.5, 0.0, 0.5])
    assert find_neighbours(features, None, 2).agreement is None


def test_best_and_worst_queries_by_labels():
    agreement = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.5])
    similarities = np.array([0.7, 0.9, 0.8, 0.6, 0.9, 0.5])[:, None]
    found = representation.Neighbours(None, similarities, agreement)
    labels = np.array([0, 0, 1, 0, 1, 2])
    groups = representation.choose_queries(found, labels, 3, seed=0)
    assert groups["Best queries"][1].tolist() == [1, 2, 5]
    assert groups["Worst queries"][1].tolist() == [4, 3, 5]
    assert len({*groups["Random queries"][1].tolist()}) == 3


def test_best_and_worst_queries_without_labels():
    similarities = np.array([0.7, 0.9, 0.8, 0.6])[:, None]
    found = representation.Neighbours(None, similarities, None)
    groups = representation.choose_queries(found, None, 2, seed=0)
    assert groups["Best queries"][1].tolist() == [1, 2]
    assert groups["Worst queries"][1].tolist() == [3, 0]


def two_groups():
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0] * 8, [9.0] * 8], 20, axis=0)
    return centres + rng.normal(size=(40, 8))


@pytest.mark.parametrize(
    ("absent", "method"), [((), "t-SNE"), (("sklearn.manifold",), "PCA")]
)
def test_map_separates_two_groups_of_features(monkeypatch, absent, method):
    for name in ("umap", *absent):
        monkeypatch.setitem(sys.modules, name, None)
    name, points = representation.embed_in_plane(two_groups(), seed=0)
    assert name == method
    assert points.shape == (40, 2)
    assert points.min() == 0.0
    assert points.max() == 1.0
    first, second = points[:20], points[20:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    within = max(
        np.linalg.norm(g - g.mean(axis=0), axis=1).max() for g in (first, second)
    )
    assert between > within


def test_map_uses_umap_if_it_is_installed(monkeypatch):
    class Reducer:
        def __init__(self, **settings):
            assert settings["random_state"] == 5
            assert settings["n_neighbors"] == 15

        def fit_transform(self, features):
            return features[:, :2]

    class Library:
        UMAP = Reducer

    monkeypatch.setitem(sys.modules, "umap", Library)
    name, points = representation.embed_in_plane(two_groups(), seed=5)
    assert name == "UMAP"
    np.testing.assert_allclose(points.max(axis=0), 1.0)


@pytest.mark.parametrize("features", [np.ones((5, 3)), np.arange(5.0)[:, None]])
def test_map_of_features_without_two_directions_is_finite(monkeypatch, features):
    for name in ("umap", "sklearn.manifold"):
        monkeypatch.setitem(sys.modules, name, None)
    assert np.isfinite(representation.embed_in_plane(features, seed=0)[1]).all()


def test_small_image_is_not_resized():
    images = tf.constant([[[[0.0], [1.0]], [[0.5], [2.0]]]])
    assert representation.to_bytes(images, 2).tolist() == [
        [[[0], [255]], [[128], [255]]]
    ]
