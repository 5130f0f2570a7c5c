"""The public names, and the cost of `import byol_keras`, each in a fresh process."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import byol_keras as bk

from support import ROOT


def run_python(code, *arguments):
    """Runs code in a process that has imported nothing; returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FIRST_USE = """
import sys
import byol_keras as bk

def heavy():
    names = ("tensorflow_datasets", "keras_cv", "byol_keras.benchmarks")
    return [name for name in names if name in sys.modules]

print("imported", *heavy())
print("used", *[bk.data.__name__, bk.views.__name__, bk.interop.__name__])
print("used", bk.ColorJitter.__module__, bk.benchmarks.__name__)
print("datasets", "tensorflow_datasets" in sys.modules)
bk.data.fashion_mnist_small("test")
print("datasets", "tensorflow_datasets" in sys.modules)
"""


def test_sub_packages_are_imported_when_they_are_used_and_tfds_by_its_data():
    assert run_python(FIRST_USE) == [
        "imported",
        *("used", "byol_keras.data", "byol_keras.views", "byol_keras.interop"),
        *("used", "byol_keras.views.colors", "byol_keras.benchmarks"),
        *("datasets", "False"),
        *("datasets", "True"),
    ]


ENVIRONMENT = """
import os
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))

sys.meta_path.insert(0, Finder())
import byol_keras
"""


def test_environment_is_set_before_tensorflow_is_imported(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert run_python(ENVIRONMENT)[0] == "1"


LOAD = """
import sys
import byol_keras
import keras

model = keras.saving.load_model(sys.argv[1])
print(type(model.optimizer).__name__, float(model.optimizer.learning_rate))
"""


def test_saved_model_with_a_schedule_of_ours_loads_after_the_import_alone(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = bk.WarmupCosine(0.5, total_steps=10, warmup_steps=2)
    model.compile(bk.MomentumSGD(rate), loss="mse")
    model.fit(np.ones((2, 2)), np.ones(2), batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    # Two steps are done, so the warm-up is over.
    assert run_python(LOAD, tmp_path / "model.keras") == ["MomentumSGD", "0.5"]


def test_every_public_name_exists_and_is_listed():
    names = [*bk.__all__, "benchmarks", "data", "interop", "views"]
    assert [name for name in names if not hasattr(bk, name)] == []
    assert set(names) <= set(dir(bk))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'byol_keras' has no attribute 'SimCLR'"):
        _ = bk.SimCLR
