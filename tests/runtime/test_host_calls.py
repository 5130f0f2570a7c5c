"""Processes that still hold iterators end by themselves."""

import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.runtime.host_calls import _Calls, host_function, host_iterator

START = """
import numpy as np, tensorflow as tf, byol_keras as bk
layers = [bk.RandomResizedCrop(size=64), bk.RandomHorizontalFlip()]
views = bk.TwoViews(layers, layers)
"""
END = "next(iterator); print('end of the script', flush=True)"
SCRIPTS = {
    "views of arrays": """
rng = np.random.default_rng(0)
images = rng.integers(0, 255, (256, 128, 128, 3), dtype=np.uint8)
iterator = iter(views.dataset(bk.data.arrays(images), 64, seed=0))
""",
    "views of files": """
import pathlib, sys
for number in range(40):
    pixels = np.full((90, 120, 3), number, np.uint8)
    data = tf.io.encode_jpeg(pixels).numpy() if number else b"damaged"
    (pathlib.Path(sys.argv[1]) / f"{number:02}.jpg").write_bytes(data)
iterator = iter(views.dataset(bk.image_folder(sys.argv[1]), 8, seed=0))
""",
    "arrays in files": """
import pathlib, sys
for number in range(40):
    np.save(pathlib.Path(sys.argv[1]) / f"{number}.npy", np.zeros((90, 90, 5), "uint8"))
iterator = iter(views.dataset(bk.image_folder(sys.argv[1]), 8, seed=0))
""",
    "a pipeline of the user's own": """
images = np.zeros((64, 96, 96, 3), np.uint8)
dataset = views.dataset(bk.data.arrays(images), 8, seed=0)
dataset = dataset.map(lambda a, b: (a, b, a - b)).prefetch(tf.data.AUTOTUNE)
iterator = iter(dataset.with_options(tf.data.Options()))
""",
}


def ended(script, folder):
    """Output of a script in a process of its own, and seconds after its last line."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + script + END, folder],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    start = time.monotonic()
    assert process.wait(timeout=60) == 0
    return line, time.monotonic() - start


@pytest.mark.parametrize(
    "name",
    [
        "views of arrays",
        pytest.param("views of files", marks=pytest.mark.slow),
        pytest.param("arrays in files", marks=pytest.mark.slow),
        pytest.param("a pipeline of the user's own", marks=pytest.mark.slow),
    ],
)
def test_process_ends_while_an_iterator_is_alive(name, tmp_path):
    line, seconds = ended(SCRIPTS[name], str(tmp_path))
    assert line == "end of the script\n"
    assert seconds < 20  # two on a quiet machine


def test_results_are_those_of_the_function():
    dataset = tf.data.Dataset.range(4).map(
        lambda x: host_function(np.square, [x], tf.int64)
    )
    assert [int(x) for x in dataset] == [0, 1, 4, 9]


def test_generator_yields_its_values_and_ends():
    make = host_iterator(lambda: iter([3, 1]))
    assert [*make(), *make()] == [3, 1, 3, 1]


def test_call_after_the_end_of_the_process_began_returns_at_once():
    calls = _Calls()
    with calls:
        pass
    calls.end()
    with pytest.raises(StopIteration), calls:
        pytest.fail("the function must not run")


def test_end_of_the_process_waits_for_no_call_where_none_was_made():
    start = time.monotonic()
    _Calls().end()
    assert time.monotonic() - start < 0.2
