"""Shared by the whole suite: two CPU devices, and no state left behind by a test."""

import importlib

import byol_keras  # noqa: F401, sets what TensorFlow reads when it is imported

# isort: split
import gin
import keras
import pytest
import tensorflow as tf

from support import ROOT

# TensorFlow takes this only before its first operation, so no test can do it later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


@pytest.fixture
def experiments(monkeypatch):
    """Imports scripts of the folder `experiments` by their names."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module


@pytest.fixture(autouse=True)
def _no_global_state():
    yield
    gin.clear_config()
    keras.config.set_dtype_policy("float32")
