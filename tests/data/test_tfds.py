"""Any split of any TFDS dataset is read, or the error names what is wrong."""

import io
import shutil
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras import data
from byol_keras.data import tfds_builders as module

from support.datasets import make_records, random_image, write


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture
def never_in_memory(monkeypatch):
    monkeypatch.setattr(module, "_MEMORY_BYTES", -1)


def test_a_slice_reads_across_files(records):
    whole = [e["image"].numpy()[0, 0, 0] for e in data.tfds_folder(records).ordered()]
    source = data.tfds_folder(records, "train[10%:75%]")
    assert source.num_examples == 26
    part = [e["image"].numpy()[0, 0, 0] for e in source.ordered()]
    assert part == whole[4:30] == list(range(4, 30))


def test_splits_add_up(records, never_in_memory):
    source = data.tfds_folder(records, "train+test")
    assert source.num_examples == len(list(source.ordered())) == 50


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


def test_other_names_of_features_and_unknown_channels_are_read(tmp_path):
    rng = np.random.default_rng(0)
    features = tfds.features.FeaturesDict(
        {
            "photo": tfds.features.Image(shape=(None, None, 0), encoding_format="jpeg"),
            "kind": tfds.features.ClassLabel(names=["a", "b"]),
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
        }
    )
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name="photos", version="1.0.0", data_dir=str(tmp_path), module_name=""
        ),
        features=features,
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=2)
    writer.initialize_splits(["photos"])
    for i in range(3):
        jpeg = io.BytesIO(tf.io.encode_jpeg(random_image(rng, 8 + i, 20)).numpy())
        boxes = np.zeros((i, 4), np.float32)
        example = {"photo": jpeg, "kind": i % 2, "boxes": boxes}
        writer.add_examples({"photos": [example]})
    writer.close_all()

    source = data.tfds_folder(tmp_path, "photos", image_key="photo", label_key="kind")
    assert (source.channels, source.image_size) == (3, None)
    assert source.class_names == ("a", "b")
    shapes = [tuple(e["image"].shape) for e in source.ordered()]
    assert shapes == [(8, 20, 3), (9, 20, 3), (10, 20, 3)]
    assert [int(e["label"]) for e in source.ordered()] == [0, 1, 0]
    with pytest.raises(ValueError, match=r"image_key .* of \['photo'\]. .*'image'"):
        data.tfds_folder(tmp_path, "photos")
    with pytest.raises(ValueError, match=r"label_key .* of \['kind'\]. .*'boxes'"):
        data.tfds_folder(tmp_path, "photos", image_key="photo", label_key="boxes")


def test_an_unknown_dataset_names_the_nearest():
    with pytest.raises(ValueError, match=r"name .*nearest: .*fashion_mnist.*_mnistt$"):
        data.tfds_dataset("fashion_mnistt")


def test_an_unknown_version_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"only: 3\.0\.1.*Received: fashion_mnist:9"):
        data.tfds_dataset("fashion_mnist:9.9.9", data_dir=str(tmp_path))


def test_a_dataset_that_is_not_prepared_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"prepared dataset.*Received: fashion_mnist"):
        data.tfds_dataset("fashion_mnist", data_dir=str(tmp_path), download=False)


def test_a_failed_preparation_names_the_ways_out(tmp_path):
    message = r"data_dir .* manual_dir .*Manual directory.*Received: imagenet2012$"
    with pytest.raises(ValueError, match=message):
        data.tfds_dataset(
            "imagenet2012", data_dir=str(tmp_path), manual_dir=str(tmp_path / "none")
        )


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


def test_a_missing_record_file_is_named(records, tmp_path):
    shutil.copytree(records, tmp_path, dirs_exist_ok=True)
    next(tmp_path.glob("*train*00001*")).unlink()
    with pytest.raises(ValueError, match=r"must exist.*no file .*00001-of-00003"):
        data.tfds_folder(tmp_path)


def test_records_of_other_formats_are_refused(records, tmp_path):
    shutil.copytree(records, tmp_path, dirs_exist_ok=True)
    info = tmp_path / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(ValueError, match=r"stored as tfrecord.*as array_record"):
        data.tfds_folder(tmp_path)


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
