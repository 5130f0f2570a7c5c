"""Prediction on whole images and in windows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.segmentation.fcn import FCN
from byol_keras.benchmarks.segmentation.inference import predictor, window_starts


def brightest_channel(align_corners=False):
    """A model whose class is the brightest channel of a pixel."""
    images = keras.Input((None, None, 3))
    logits = layers.Identity()(images)
    network = keras.Model(images, {"main": logits, "auxiliary": logits})
    return FCN(network, align_corners=align_corners)


def stripes(height=9, width=14):
    """An image, and the channel that is the brightest in each of its columns."""
    mask = np.broadcast_to(np.arange(width) // 3 % 3, (height, width))
    return np.eye(3, dtype=np.uint8)[mask] * 255, mask.astype(np.uint8)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("window", [None, (9, 5), (6, 4), (20, 10)])
def test_prediction_has_the_size_of_the_image(window, align_corners):
    image, mask = stripes()
    predict = predictor(brightest_channel(align_corners), (14, 9), window)
    np.testing.assert_array_equal(predict(image), mask)


@pytest.mark.parametrize("window", [None, (9, 5)])
@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(window, factor):
    images = keras.Input((None, None, 3))
    logits = layers.Rescaling(factor)(images)
    network = keras.Model(images, {"main": logits, "auxiliary": logits})
    predict = predictor(FCN(network), (14, 9), window)
    with pytest.raises(ValueError, match="logits must be finite"):
        predict(stripes()[0])


def test_network_gets_the_image_at_the_scale():
    seen = []

    class Watched(FCN):
        def call(self, images, training=None):
            tf.py_function(lambda x: seen.append(tuple(x.shape)), [images], [])
            return super().call(images, training)

    model = Watched(brightest_channel().segmenter)
    assert predictor(model, (42, 27))(stripes()[0]).shape == (9, 14)
    assert seen == [(1, 27, 42, 3)]


class Ramp(layers.Layer):
    """Logits of two classes: 2 everywhere, and the column in the image."""

    def call(self, images):
        flat = tf.zeros_like(images[..., :1])
        columns = tf.cast(tf.range(tf.shape(images)[2]), tf.float32)
        return tf.concat([flat + 2.0, flat + columns[:, None]], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 2)


def test_logits_are_the_mean_over_the_windows():
    images = keras.Input((None, None, 3))
    logits = Ramp()(images)
    model = FCN(keras.Model(images, {"main": logits, "auxiliary": logits}))
    image = np.zeros((4, 6, 3), np.uint8)
    # Columns 0-3 and 2-5: means 0, 1, (2 + 0) / 2, (3 + 1) / 2, 2, 3, against 2.
    assert predictor(model, (6, 4), (4, 2))(image)[0].tolist() == [0, 0, 0, 0, 0, 1]
    assert predictor(model, (6, 4))(image)[0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1025, [0, 256]), (2049, [0, 513, 1026, 1280]), (769, [0]), (500, [0])],
)
def test_published_windows_cover_the_image(length, expected):
    assert window_starts(length, side=769, stride=513) == expected
