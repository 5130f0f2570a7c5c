"""A prepared folder holds its records in order and is read as any dataset of TFDS."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras.data import tfds_folder
from byol_keras.data.assets.prepared_folder import serialized, write_folder


def test_records_are_read_back_in_order_from_several_files(tmp_path):
    images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4, 1)
    labels = [2, 0, 1, 1, 0]
    records = [
        serialized(tf.io.encode_png(image).numpy(), label)
        for image, label in zip(images, labels, strict=True)
    ]
    write_folder(
        tmp_path / "dots/1.0.0",
        "dots",
        {"train": (records[:4], 3), "test": (records[4:], 1)},
        tfds.features.Image(shape=(4, 4, 1), encoding_format="png"),
        ["a", "b", "c"],
        description="dots",
        license="CC0",
    )
    assert len(list((tmp_path / "dots/1.0.0").glob("dots-train.tfrecord-*"))) == 3
    train = tfds_folder(tmp_path / "dots/1.0.0", "train")
    found = list(train.ordered())
    np.testing.assert_array_equal([one["image"] for one in found], images[:4])
    assert [int(one["label"]) for one in found] == labels[:4]
    assert train.class_names == ("a", "b", "c")
    assert tfds_folder(tmp_path / "dots/1.0.0", "test").num_examples == 1
