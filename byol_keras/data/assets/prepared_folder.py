"""Writes a prepared TFDS folder whose bytes depend on the examples alone."""

import itertools
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

VERSION = "1.0.0"


def serialized(encoded: bytes, label: int) -> bytes:
    """One record. TFDS's writer would order the features of a record at random.

    Args:
        encoded: image file.
        label: int. Place of its class.
    """
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def write_folder(
    out_dir: str | os.PathLike,
    name: str,
    splits: Mapping[str, tuple[list[bytes], int]],
    image: tfds.features.Image,
    class_names: list[str],
    **metadata: str,
) -> None:
    """Writes record files and metadata.

    Args:
        out_dir: folder to write; created if it does not exist.
        name: name of the dataset, in the names of its files.
        splits: name of a split -> its records, in order, and how many files they fill.
        image: shape and encoding of the images.
        class_names: names of the labels.
        **metadata: description, homepage, citation and license.
    """
    out_dir = pathlib.Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    tfds.folder_dataset.write_metadata(
        data_dir=out_dir,
        features={
            "image": image,
            "label": tfds.features.ClassLabel(names=class_names),
        },
        split_infos=[
            _write_split(out_dir, name, split, records, num_shards)
            for split, (records, num_shards) in splits.items()
        ],
        version=VERSION,
        supervised_keys=("image", "label"),
        **metadata,
    )


def _write_split(out_dir, name, split, records, num_shards):
    """Writes the records of a split, in order, to files of nearly equal length."""
    template = tfds.core.ShardedFileTemplate(
        dataset_name=name, split=split, filetype_suffix="tfrecord", data_dir=out_dir
    )
    bounds = np.linspace(0, len(records), num_shards + 1).astype(int)
    for shard, (begin, end) in enumerate(itertools.pairwise(bounds)):
        path = template.sharded_filepath(shard_index=shard, num_shards=num_shards)
        with tf.io.TFRecordWriter(os.fspath(path)) as writer:
            for record in records[begin:end]:
                writer.write(record)
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=np.diff(bounds).tolist(),
        num_bytes=sum(len(record) for record in records),
        filename_template=template,
    )
