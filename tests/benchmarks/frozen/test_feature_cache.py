"""Cached features are reused for the same computation only."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.backbones import resnet18
from byol_keras.benchmarks.frozen import features as features_module
from byol_keras.benchmarks.frozen.feature_cache import FeatureCache, computation_digest
from byol_keras.benchmarks.frozen.features import extract_all
from byol_keras.data.unreadable import counted_left_out
from byol_keras.export import export_backbone, load_backbone

from support.datasets import write

VECTOR = tf.TensorSpec([None, 3], tf.float32)


def digest_of(function):
    return computation_digest(function, VECTOR)


def test_the_same_computation_has_the_same_digest():
    assert digest_of(lambda x: x * 2.0 + 1.0) == digest_of(lambda y: y * 2.0 + 1.0)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x * 2.0 + 1.5,
        lambda x: x * 2.0 - 1.0,
        lambda x: 1.0 + (x * 2.0),
        lambda x: (x + 1.0) * 2.0,
        lambda x: tf.cond(x[0, 0] > 0, lambda: x * 2.0, lambda: x + 1.0),
    ],
)
def test_another_computation_has_another_digest(other):
    assert digest_of(lambda x: x * 2.0 + 1.0) != digest_of(other)


def test_a_change_inside_a_branch_changes_the_digest():
    def branching(factor):
        return lambda x: tf.cond(x[0, 0] > 0, lambda: x * factor, lambda: x)

    assert digest_of(branching(2.0)) == digest_of(branching(2.0))
    assert digest_of(branching(2.0)) != digest_of(branching(3.0))


def test_a_changed_weight_changes_the_digest():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    before = digest_of(layer)
    layer.kernel.assign_add(1e-6 * np.ones((3, 2)))
    assert digest_of(layer) != before


def test_a_captured_array_is_part_of_the_digest():
    first, second = tf.constant([1.0, 2.0, 3.0]), tf.constant([1.0, 2.0, 4.0])
    assert digest_of(lambda x: x * first) != digest_of(lambda x: x * second)


def test_copies_of_a_model_share_the_digest_and_other_weights_do_not(tmp_path):
    backbone = resnet18(width=0.125, stem="small")
    export_backbone(backbone, tmp_path)
    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    digests = {
        computation_digest(lambda x, m=model: m(x, training=False), images)
        for model in (backbone, load_backbone(tmp_path), load_backbone(tmp_path))
    }
    assert len(digests) == 1
    other = resnet18(width=0.125, stem="small")
    assert computation_digest(lambda x: other(x, training=False), images) not in digests


def test_copies_of_a_saved_model_share_the_digest(tmp_path):
    export_backbone(resnet18(width=0.125, stem="small"), tmp_path)
    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    digests = {
        computation_digest(load_backbone(tmp_path / "saved_model"), images)
        for _ in range(2)
    }
    assert len(digests) == 1


def test_incomplete_file_is_not_stored(tmp_path):
    cache = FeatureCache(tmp_path)
    filling = cache.write("key", (2, 3), np.float32, lambda: 2)
    with pytest.raises(RuntimeError), filling:
        raise RuntimeError("interrupted")
    assert cache.read("key") is None
    assert list(tmp_path.iterdir()) == []


class Mean(keras.Model):
    """Two features of an image: its mean colour, scaled, and its pixels."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(1.0)

    def call(self, images):
        mean = tf.reduce_mean(images, axis=(1, 2)) * self.scale
        return {"avgpool": mean, "feature5": images}


@pytest.fixture
def readings(monkeypatch):
    """The features of every pass over the data that was really made."""
    made = []
    run = features_module._run

    def counted(backbone, features, *args):
        made.append(list(features))
        return run(backbone, features, *args)

    monkeypatch.setattr(features_module, "_run", counted)
    return made


def labelled(offset=0):
    images = np.random.default_rng(0).integers(0, 200, (5, 4, 4, 3), dtype=np.uint8)
    return data.arrays(images + np.uint8(offset), np.arange(5))


def double(image):
    return tf.cast(image, tf.float32) / 510.0


def extract(model, folder, source=None, features=("avgpool",), transform=None):
    found = extract_all(
        model, source or labelled(), features, transform, cache_dir=folder
    )
    return found[features[-1]]


def test_second_call_reads_the_same_features_without_computing(readings, tmp_path):
    model = Mean()
    first, second = extract(model, tmp_path), extract(model, tmp_path)
    assert readings == [["avgpool"]]
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(second.labels, np.arange(5))
    assert isinstance(second.features, np.memmap)


def test_cached_features_are_those_computed_in_memory(tmp_path):
    stored, direct = extract(Mean(), tmp_path), extract(Mean(), None)
    np.testing.assert_array_equal(stored.features, direct.features)
    assert not isinstance(direct.features, np.memmap)


def test_only_the_missing_feature_is_computed(readings, tmp_path):
    extract(Mean(), tmp_path)
    found = extract(Mean(), tmp_path, features=("avgpool", "feature5"))
    assert readings == [["avgpool"], ["feature5"]]
    assert found.features.shape == (5, 48)


def test_changed_weights_do_not_get_old_features(tmp_path):
    model = Mean()
    before = extract(model, tmp_path).features
    model.scale.assign(2.0)
    np.testing.assert_allclose(extract(model, tmp_path).features, 2 * before)


def test_changed_images_do_not_get_old_features(tmp_path):
    before = extract(Mean(), tmp_path).features
    after = extract(Mean(), tmp_path, source=labelled(offset=10)).features
    np.testing.assert_allclose(after, before + 10 / 255, rtol=1e-5)


def test_another_transform_does_not_get_old_features(tmp_path):
    before = extract(Mean(), tmp_path).features
    after = extract(Mean(), tmp_path, transform=double).features
    np.testing.assert_allclose(after, before / 2, rtol=1e-5)


def folder_of_images(folder, broken=()):
    for number in range(5):
        image = np.full((4, 4, 3), number, np.uint8)
        path = folder / "ab"[number % 2] / f"{number}.png"
        write(path, b"broken" if number in broken else tf.io.encode_png(image))
    return data.image_folder(folder, channels=3, max_bad_share=0.5)


def test_cached_features_have_no_row_of_an_unreadable_image(readings, tmp_path):
    source = folder_of_images(tmp_path / "images", broken=(2,))
    for again in (source, data.image_folder(tmp_path / "images", 3, 0.5)):
        with counted_left_out() as counts:
            found = extract(Mean(), tmp_path / "cache", again, transform=double)
        assert isinstance(found.features, np.memmap)
        np.testing.assert_allclose(found.features[:, 0] * 510, [0, 4, 1, 3], atol=1e-5)
        assert found.labels.tolist() == [0, 0, 1, 1]
        assert counts == {source.name: 1}
    assert readings == [["avgpool"]]
    assert all(path.suffix == ".npy" for path in (tmp_path / "cache").iterdir())


def test_rows_stored_before_a_file_broke_are_not_mixed_with_later_ones(
    readings, tmp_path
):
    source = folder_of_images(tmp_path / "images")
    extract(Mean(), tmp_path / "cache", source, transform=double)
    path = tmp_path / "images" / "a" / "2.png"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))  # same name, size and time: same digest
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    features = ("feature5", "avgpool")
    for _ in range(2):
        found = extract(Mean(), tmp_path / "cache", source, features, double)
        np.testing.assert_allclose(found.features[:, 0] * 510, [0, 4, 1, 3], atol=1e-5)
    assert readings == [["avgpool"], ["feature5"], ["feature5", "avgpool"]]


def test_url_is_no_folder_of_features():
    with pytest.raises(ValueError, match=r"^cache_dir must be a local path"):
        FeatureCache("s3://bucket/features")


def test_full_disk_is_an_error_before_features_are_written(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    cache = FeatureCache(tmp_path)
    stored = cache.write("key", (4, 2), np.float32, lambda: 4)
    with pytest.raises(OSError, match="No space left"), stored:
        pytest.fail("features were written")
    assert list(tmp_path.iterdir()) == []
