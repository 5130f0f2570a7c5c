"""Strategies, precision and seeds by name."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.runtime import devices


def test_cpu_is_one_device_and_mirrored_all_logical_ones():
    assert devices.make_strategy("cpu").num_replicas_in_sync == 1
    assert devices.make_strategy("mirrored").num_replicas_in_sync == 2


def test_auto_without_several_gpus_is_the_default_strategy():
    assert devices.make_strategy("auto") is tf.distribute.get_strategy()


def test_unknown_strategy_is_refused_with_all_names():
    with pytest.raises(ValueError, match=r"^strategy must be one of .*'tpu'.* 'gpu'$"):
        devices.make_strategy("gpu")


def test_missing_tpu_is_one_line(monkeypatch):
    def connect(*_, **__):
        raise ValueError("Please provide a TPU Name to connect to.\nmore")

    resolver = tf.distribute.cluster_resolver.TPUClusterResolver
    monkeypatch.setattr(resolver, "connect", connect)
    with pytest.raises(
        ValueError, match=r"^strategy must .* TPU Name to connect to\.$"
    ):
        devices.make_strategy("tpu")


def test_precision_is_the_policy_of_new_layers():
    devices.set_precision("mixed_bfloat16")
    assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"precision must be one of .* 'float16'$"):
        devices.set_precision("float16")


def test_seed_determines_what_python_numpy_and_tensorflow_draw():
    def draws(seed):
        devices.set_seed(seed)
        return [np.random.rand(), float(tf.random.uniform([])), *_weights()]

    assert draws(1) == draws(1)
    assert not set(draws(1)) & set(draws(2))


def _weights():
    dense = keras.layers.Dense(2)
    dense.build((None, 2))
    return np.ravel(dense.kernel).tolist()


def test_nondeterministic_operations_fail_in_deterministic_mode():
    # In a process of its own, since the mode cannot be left.
    script = """
from byol_keras.runtime import devices
import tensorflow as tf

devices.set_seed(0, deterministic=True)
tf.random.get_global_generator().normal([])
try:
    tf.timestamp()
except tf.errors.FailedPreconditionError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"
