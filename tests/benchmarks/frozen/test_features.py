"""Frozen features of all images, in stored order."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.backbones import resnet18
from byol_keras.benchmarks.frozen import (
    knn,
    linear,
    linear_features,
    linear_sweep,
    logistic,
    low_shot_svm,
    svm,
)
from byol_keras.benchmarks.frozen.features import NonfiniteFeatures, extract_features
from byol_keras.data.unreadable import counted_left_out
from byol_keras.views.transforms import resize_center_crop

from support.datasets import write


class CountingBackbone(keras.Model):
    """Mean colour of an image; counts how often Python runs its `call`."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, images):
        self.calls += 1
        return tf.reduce_mean(images, axis=(1, 2))


@pytest.fixture(scope="module")
def backbone():
    return resnet18(width=0.125, stem="small")


def random_images(num_images=7, height=12, width=10, channels=3):
    shape = (num_images, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def labelled(num_images=7, **shape):
    labels = np.arange(num_images)[::-1].copy()
    return data.arrays(random_images(num_images, **shape), labels)


def test_features_are_those_of_a_forward_pass_in_stored_order(backbone):
    found = extract_features(backbone, labelled(), batch_size=3)
    expected = backbone(random_images() / np.float32(255))["avgpool"]
    np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, [6, 5, 4, 3, 2, 1, 0])
    assert found.features.dtype == np.float32
    assert found.labels.dtype == np.int64


def test_feature_maps_are_flattened(backbone):
    found = extract_features(backbone, labelled(), feature="feature3")
    expected = backbone(random_images() / np.float32(255))["feature3"]
    flat = np.reshape(expected, (7, -1))
    np.testing.assert_allclose(found.features, flat, rtol=1e-5, atol=1e-6)


def test_features_are_those_of_inference_mode():
    images = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    dropped = keras.Model(images, keras.layers.Dropout(0.9)(x))
    found = extract_features(dropped, labelled())
    expected = np.mean(random_images() / 255.0, axis=(1, 2))
    np.testing.assert_allclose(found.features, expected, rtol=1e-5)


def test_transform_makes_the_images_for_the_backbone():
    found = extract_features(
        CountingBackbone(), labelled(), transform=lambda image: image[:1, :1] / 255
    )
    expected = random_images()[:, 0, 0] / 255.0
    np.testing.assert_allclose(found.features, expected, rtol=1e-5)


def test_batches_of_all_sizes_share_one_trace():
    backbone = CountingBackbone()
    extract_features(backbone, labelled(), batch_size=3)
    assert backbone.calls == 1


def test_many_calls_give_no_warning_of_retracing(monkeypatch):
    warnings = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda *args: warnings.append(args))
    for _ in range(8):
        extract_features(CountingBackbone(), labelled())
    assert warnings == []


def test_unlabelled_data_are_refused(backbone):
    with pytest.raises(ValueError, match=r"must have labels\. Received: arrays"):
        extract_features(backbone, data.arrays(random_images()))


def test_other_channels_than_those_of_the_backbone_are_refused(backbone):
    with pytest.raises(ValueError, match=r"the backbone's 3 channels.* with 1"):
        extract_features(backbone, labelled(channels=1))


def test_images_of_different_sizes_need_a_transform(backbone):
    mixed = dataclasses.replace(labelled(), image_size=None)
    with pytest.raises(ValueError, match="need a transform"):
        extract_features(backbone, mixed)


def test_unknown_feature_is_refused_with_the_known_ones(backbone):
    with pytest.raises(ValueError, match=r"'avgpool'.*Received: 'feature6'"):
        extract_features(backbone, labelled(), feature="feature6")


def test_negative_labels_are_refused(backbone):
    class Secret:
        def ordered(self):
            image = tf.zeros((4, 12, 10, 3), tf.uint8)
            label = tf.constant([0, 1, -1, 2], tf.int64)
            return tf.data.Dataset.from_tensor_slices({"image": image, "label": label})

    source = labelled(4)
    secret = dataclasses.replace(source, source=Secret())
    with pytest.raises(ValueError, match=r"labels must be 0 or more\. Received: -1"):
        extract_features(backbone, secret)


def broken_backbone(value):
    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    features = keras.layers.Rescaling(1.0, value)(pooled)
    return keras.Model(images, {"avgpool": features})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_with_their_count(value):
    with pytest.raises(
        NonfiniteFeatures,
        match=r"backbone's features must be finite\. Received: NaN or infinity for 3 "
        r"of 3 images of a batch of arrays.*, avgpool",
    ):
        extract_features(broken_backbone(value), labelled(), batch_size=3)


every_benchmark = pytest.mark.parametrize(
    "benchmark",
    [knn, linear, linear_features, linear_sweep, logistic, low_shot_svm, svm],
    ids=lambda function: function.__name__,
)


def small_settings(benchmark, train):
    """Arguments with which a benchmark is quick, with test images from training."""
    name = benchmark.__name__
    if name in ("logistic", "low_shot_svm", "svm"):
        pytest.importorskip("sklearn")
    settings = {"test_data": train}
    if name.startswith("linear"):
        settings |= {"optimizer_fn": keras.optimizers.SGD, "batch_size": 4}
        settings |= {"learning_rate_fn": lambda *args, **kwargs: 0.1, "epochs": 1}
    if name == "linear_sweep":
        settings["validation_data"] = train
    maps = {"svm": {"features": ["avgpool"]}, "low_shot_svm": {"feature": "avgpool"}}
    settings |= maps.get(name, {}) | ({"k": [1]} if name == "knn" else {})
    return settings | ({"ks": [1], "jobs": 1} if name == "low_shot_svm" else {})


def with_maps(backbone):
    """A backbone that returns the features of another one as those of all stages."""
    images = keras.Input((None, None, 3))
    maps = {f"feature{i}": backbone.layers[-1](images) for i in range(1, 6)}
    return keras.Model(images, maps)


@every_benchmark
def test_no_frozen_benchmark_scores_features_that_are_not_finite(benchmark):
    train = data.arrays(random_images(12, 8, 8), np.arange(12) % 2)
    backbone = broken_backbone(np.nan)
    if benchmark is linear_features:
        backbone = with_maps(backbone)
    with pytest.raises(NonfiniteFeatures, match="features must be finite"):
        benchmark(backbone, train, **small_settings(benchmark, train))


def folder_of_two_classes(folder, without=(), broken=()):
    """Files 00.png to 15.png in turn in the classes a and b, of similar colours."""
    images = random_images(16, 8, 8)
    for number, image in enumerate(images):
        image[..., number % 2] //= 2
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        if number in broken:
            write(path, b"broken")
        elif number not in without:
            write(path, tf.io.encode_png(image))
    return data.image_folder(folder, channels=3, max_bad_share=0.5)


@pytest.mark.parametrize(
    "benchmark",
    [
        knn,
        linear_sweep,
        low_shot_svm,
        *(
            pytest.param(function, marks=pytest.mark.slow)
            for function in (linear, linear_features, logistic, svm)
        ),
    ],
    ids=lambda function: function.__name__,
)
def test_score_is_that_of_the_data_without_their_unreadable_images(benchmark, tmp_path):
    bad = (0, 3, 8)
    backbone = broken_backbone(0.0)
    if benchmark is linear_features:
        backbone = with_maps(backbone)
    resize = functools.partial(resize_center_crop, size=8, resize=8)

    def scores(source):
        settings = small_settings(benchmark, source)
        return benchmark(backbone, source, **settings, transform=resize)

    expected = scores(folder_of_two_classes(tmp_path / "clean", without=bad))
    source = folder_of_two_classes(tmp_path / "broken", broken=bad)
    with counted_left_out() as counts:
        assert scores(source) == expected
    assert counts == {source.name: 3}


def test_rows_of_unreadable_images_are_left_out(tmp_path):
    source = folder_of_two_classes(tmp_path, broken=(0, 3))
    resize = functools.partial(resize_center_crop, size=8, resize=8)
    found = extract_features(CountingBackbone(), source, resize, batch_size=4)
    assert found.features.shape == (14, 3)
    assert found.labels.tolist() == [0] * 7 + [1] * 7
    for row, example in zip(found.features, source.ordered(), strict=True):
        mean = np.mean(example["image"], axis=(0, 1)) / 255
        np.testing.assert_allclose(row, mean, rtol=1e-4)


def test_knn_of_more_neighbours_than_readable_images_is_refused(tmp_path):
    source = folder_of_two_classes(tmp_path, broken=(0, 3))
    resize = functools.partial(resize_center_crop, size=8, resize=8)
    with pytest.raises(ValueError, match="from 1 to the 14 training images"):
        knn(broken_backbone(0.0), source, source, k=[15], transform=resize)
