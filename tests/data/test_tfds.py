"""Any split of any TFDS dataset is read, or the error names what is wrong."""

import subprocess
import sys

import gin
import numpy as np
import pytest

from byol_keras import data

from support.datasets import make_records, write


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


def test_a_slice_reads_across_files(records):
    whole = [e["image"].numpy()[0, 0, 0] for e in data.tfds_folder(records).ordered()]
    source = data.tfds_folder(records, "train[10%:75%]")
    assert source.num_examples == 26
    part = [e["image"].numpy()[0, 0, 0] for e in source.ordered()]
    assert part == whole[4:30] == list(range(4, 30))


def test_a_prepared_dataset_is_found_by_its_name(records):
    source = data.tfds_dataset(
        "fashion_mnist_small", data_dir=str(records.parent.parent), download=False
    )
    assert source.num_examples == 40
    assert source.class_names == data.FASHION_MNIST_CLASSES
    assert source.name == "fashion_mnist_small/1.0.0 of TFDS, split train"


def test_labels_can_be_left_out(records):
    source = data.tfds_folder(records, label_key=None)
    assert source.class_names is None
    assert set(next(iter(source.ordered()))) == {"image"}


def test_tfds_folders_name_what_is_wrong(records, tmp_path):
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/none"):
        data.tfds_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"prepared TFDS folder.*dataset_info.json"):
        data.tfds_folder(tmp_path)
    write(tmp_path / "dataset_info.json", b"{")
    with pytest.raises(ValueError, match=r"prepared TFDS folder.*Received: "):
        data.tfds_folder(tmp_path)
    with pytest.raises(ValueError, match=r"\['test', 'train'\].* Received: 'val'"):
        data.tfds_folder(records, "val")
    with pytest.raises(ValueError, match=r"not be empty. Received: 'train\[5:5\]'"):
        data.tfds_folder(records, "train[5:5]")
    with pytest.raises(ValueError, match=r"shuffle_buffer must be positive.*: 0"):
        data.tfds_folder(records, shuffle_buffer=0)


@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_the_embedded_dataset_is_balanced(split, per_class):
    source = data.fashion_mnist_small(split)
    assert (source.channels, source.image_size) == (1, (28, 28))
    assert source.class_names == data.FASHION_MNIST_CLASSES
    labels = np.concatenate([e["label"] for e in source.ordered().batch(1000)])
    assert len(labels) == source.num_examples == 10 * per_class
    assert np.bincount(labels).tolist() == [per_class] * 10


def test_gin_binds_the_dataset_functions():
    for name in ("tfds_dataset", "tfds_folder", "image_folder", "arrays"):
        assert gin.get_configurable(f"byol_keras.{name}").__name__ == name
    with gin.unlock_config():
        gin.bind_parameter("fashion_mnist_small.split", "test")
    try:
        assert gin.get_configurable("fashion_mnist_small")().num_examples == 2000
    finally:
        gin.clear_config()


LATE = """
import sys
from byol_keras import data
print("tensorflow_datasets" in sys.modules)
data.fashion_mnist_small("test")
print("tensorflow_datasets" in sys.modules)
"""


def test_tfds_is_imported_when_a_dataset_is_made():
    command = [sys.executable, "-c", LATE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
