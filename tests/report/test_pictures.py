"""Pictures of a page show images, neighbours and maps correctly."""

import base64

import numpy as np
import pytest
import tensorflow as tf

import byol_keras as bk
from byol_keras import data
from byol_keras.report import pictures
from byol_keras.report.representation import Sample


def decoded(uri):
    head, _, text = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return tf.io.decode_image(base64.b64decode(text)).numpy()


def sample_of(features, labels=None, side=8, channels=3):
    count = len(features)
    thumbnails = np.arange(count, dtype=np.uint8)[:, None, None, None]
    thumbnails = np.tile(10 * thumbnails, (1, side, side, channels))
    return Sample(thumbnails, thumbnails[:2], np.asarray(features), None, labels)


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (7, 3)])
def test_small_image_is_exact_in_the_channels_that_can_be_shown(channels, shown):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (28, 20, channels), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(pictures.encode(image)), image[..., :shown])


def test_larger_image_is_a_jpeg_of_the_same_size():
    image = np.full((100, 80, 3), 90, np.uint8)
    uri = pictures.encode(image)
    assert uri.startswith("data:image/jpeg")
    assert decoded(uri).shape == (100, 80, 3)
    np.testing.assert_allclose(decoded(uri), 90, atol=2)


@pytest.mark.parametrize("place", ["host", "device"])
def test_sheet_has_the_first_images_of_the_run_and_their_views(place):
    images = np.arange(12, dtype=np.uint8)[:, None, None, None] * 20
    source = data.arrays(np.tile(images, (1, 16, 16, 3)))
    views = bk.TwoViews(
        [bk.RandomResizedCrop(size=8)],
        [bk.RandomResizedCrop(size=8), bk.Solarize(threshold=0.0)],
        place=place,
    )
    sheet = pictures.augmentation_sheet(views, source, 3, 12, 4)
    expected = [int(element["image"][0, 0, 0]) for element in source.stream(3).take(4)]
    assert len(sheet["rows"]) == 4
    for value, row in zip(expected, sheet["rows"], strict=True):
        original, view1, view2 = map(decoded, row)
        assert original.shape == (16, 16, 3)
        assert view1.shape == view2.shape == (8, 8, 3)
        assert set(original.flat) == set(view1.flat) == {value}
        assert set(view2.flat) == {255 - value}


def test_gallery_counts_neighbours_of_the_same_label():
    features = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]] * 2
    labels = np.array([0, 0, 1, 1] * 2)
    found = pictures.gallery(sample_of(features, labels), ["Bag", "Boot"], seed=0)
    assert found["k"] == 6
    assert found["images"] == 8
    assert found["agreement"] == 0.5  # 3 of 6 others that are alike
    assert found["chance"] == 0.5
    for group in found["groups"]:
        for item in group["queries"]:
            same = [image["same"] for image in item["found"]]
            assert same == [True] * 3 + [False] * 3
            labels = [
                image["label"] == item["query"]["label"] for image in item["found"]
            ]
            assert labels == same
            assert item["query"]["same"] is None


def test_gallery_without_labels_has_no_agreement():
    found = pictures.gallery(sample_of(np.eye(9)), None, seed=0)
    assert "agreement" not in found
    (first, *_) = found["groups"][0]["queries"]
    assert first["query"]["label"] is None
    assert first["found"][0]["same"] is None


def test_images_of_the_map_are_at_their_points(monkeypatch):
    features = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0], [10.0, 1.0], [0.1, 0.01]])
    method = "unchanged", features / [10.0, 1.0]
    monkeypatch.setattr(pictures.representation, "embed_in_plane", lambda *_: method)
    found = pictures.embedding_map(sample_of(features, channels=1), None, seed=0)
    last = found["cells"] - 1
    tiles = {(x, y): decoded(image)[0, 0, 0] for x, y, image in found["images"]}
    # Two points are in the first corner; the last is closer to the middle of its cell.
    assert tiles == {(0, last): 40, (last, last): 10, (0, 0): 20, (last, 0): 30}


def test_map_has_a_point_with_its_label_for_every_image():
    labels = np.array([0, 1, 2] * 4)
    features = np.random.default_rng(0).normal(size=(12, 5))
    found = pictures.embedding_map(sample_of(features, labels), ["a", "b", "c"], 0)
    assert [label for _, _, label in found["points"]] == labels.tolist()
    assert found["classes"] == ["a", "b", "c"]
    assert "points" not in pictures.embedding_map(sample_of(features), None, 0)


def test_activation_is_brightest_where_the_map_is_highest():
    heat = np.zeros((2, 4, 4), np.float32)
    heat[:, 0, 3] = 5.0
    sample = sample_of(np.eye(2), side=32)._replace(activations=heat)
    for image, overlay in pictures.activation_maps(sample):
        assert decoded(image).shape == decoded(overlay).shape == (32, 32, 3)
        brightness = decoded(overlay).astype(float).sum(axis=-1)
        assert np.unravel_index(brightness.argmax(), (32, 32))[0] < 8
        assert np.unravel_index(brightness.argmax(), (32, 32))[1] >= 24


def test_constant_activations_have_an_overlay():
    heat = np.ones((2, 2, 2), np.float32)
    sample = sample_of(np.eye(2), channels=1)._replace(activations=heat)
    assert len(pictures.activation_maps(sample)) == 2


def test_spectrum_has_the_eigenvalues_of_the_features():
    features = np.zeros((4, 3))
    features[:, 0] = [3.0, -3.0, 3.0, -3.0]
    features[:, 1] = [1.0, 1.0, -1.0, -1.0]
    found = pictures.spectrum_of(sample_of(features))
    np.testing.assert_allclose(found["eigenvalues"], [12.0, 1.33333, 0.0], atol=1e-9)
    assert found["images"] == 4
    assert 1.0 < found["rankme"] < 2.01


def test_spectrum_without_variance_has_no_slope():
    assert pictures.spectrum_of(sample_of(np.zeros((4, 3))))["slope"] is None
