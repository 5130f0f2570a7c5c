"""Gin files can name our functions and those of Keras that suit training."""

import subprocess
import sys

import gin
import keras
import numpy as np
import pytest

from byol_keras import gin_names

from support import ROOT


@pytest.mark.parametrize(
    "name", ["resnet18", "BYOL", "LARS", "TwoViews", "image_folder", "OnlineProbe"]
)
def test_names_of_this_package_are_known(name):
    assert callable(gin.get_configurable(name))


def test_layers_of_keras_cv_keep_the_size_of_images():
    import keras_cv

    ranges = {"value_range": (0, 1)}
    images = np.full((2, 16, 12, 3), 0.5, np.float32)
    for name in ("RandomFlip", "AutoContrast", "Posterization"):
        assert name in gin_names.AUGMENTATIONS
    layers = [
        keras_cv.layers.RandomFlip(),
        keras_cv.layers.AutoContrast(**ranges),
        keras_cv.layers.Posterization(bits=4, **ranges),
    ]
    for layer in layers:
        assert keras.ops.shape(layer(images)) == images.shape


def test_names_need_no_benchmark():
    code = (
        "import sys, byol_keras.gin_names; "
        "print([x for x in sys.modules if x.startswith('byol_keras.benchmarks')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
