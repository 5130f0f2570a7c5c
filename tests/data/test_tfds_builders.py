"""Builders of TFDS are found, prepared and read, or the error names what is wrong."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras import data
from byol_keras.data import sources, tfds_builders

from support.datasets import make_records, random_image


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture
def never_in_memory(monkeypatch):
    monkeypatch.setattr(tfds_builders, "_MEMORY_BYTES", -1)


def test_splits_add_up(records, never_in_memory):
    source = data.tfds_folder(records, "train+test")
    assert source.num_examples == len(list(source.ordered())) == 50


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


def test_small_splits_are_rows_in_memory_and_large_ones_shards(records, monkeypatch):
    size = sum(file.stat().st_size for file in records.glob("*-train.tfrecord*"))
    for limit, kind in ((2 * size, sources.Rows), (size // 2, sources.Shards)):
        monkeypatch.setattr(tfds_builders, "_MEMORY_BYTES", limit)
        assert isinstance(data.tfds_folder(records).source, kind)
