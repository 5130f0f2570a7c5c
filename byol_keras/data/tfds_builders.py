"""Builders of TensorFlow Datasets: finding, preparing and reading them.

This module imports `tensorflow_datasets`, which takes seconds; `data.tfds` imports it
when it makes a dataset.
"""

import difflib
import functools
import os
import pathlib
import re

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras.data.decoding import channels_of
from byol_keras.data.folder_contents import log_classes
from byol_keras.data.image_data import ImageData
from byol_keras.data.sources import Rows, Shards

# A split of up to this size is held in memory. CIFAR-10 has 150 MB, ImageNet 150 GB.
_MEMORY_BYTES = 256 << 20


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The builder of a dataset that TFDS knows, or that is prepared in `data_dir`.

    Raises:
        ValueError: if there is no dataset of this name and version.
    """
    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises many kinds for wrong names and versions
        known = tfds.list_builders()
        if re.split("[/:]", name)[0] in known:
            reason = _first_line(error)
        else:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            reason = f"nearest: {', '.join(near) or 'none'}"
        raise ValueError(
            f"tfds_dataset.name must be a dataset of TFDS ({reason}). Received: {name}"
        ) from error


def folder_builder(path: pathlib.Path) -> tfds.core.DatasetBuilder:
    """The builder of a prepared TFDS folder.

    Raises:
        ValueError: if its metadata are missing or broken.
    """
    try:
        return tfds.builder_from_directory(path)
    except Exception as error:  # a missing or a broken file of metadata
        raise ValueError(
            "path must be a prepared TFDS folder, with dataset_info.json and "
            f"features.json ({_first_line(error)}). Received: {path}"
        ) from error


def prepare(
    builder: tfds.core.DatasetBuilder,
    name: str,
    manual_dir: str | None,
    download: bool,
) -> None:
    """Downloads the dataset and writes its record files.

    Raises:
        ValueError: if preparation fails, or `download` is False.
    """
    if not download:
        raise ValueError(
            "tfds_dataset.name must be a prepared dataset where download is False, as "
            f"in a dry run. Received: {name}, not in {builder.data_dir}"
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # network, checksum, missing manual files, disk
        raise ValueError(
            "tfds_dataset.name must be a dataset that can be prepared: set data_dir to "
            "where it is prepared already, or manual_dir to where its archives are "
            f"({_first_line(error)}). Received: {name}"
        ) from error


def images_of_builder(
    builder: tfds.core.DatasetBuilder,
    split: str,
    image_key: str,
    label_key: str | None,
    shuffle_buffer: int,
) -> ImageData:
    """`ImageData` of a prepared dataset; for the arguments see `data.tfds_folder`.

    Raises:
        ValueError: if the split or a feature does not exist, or the dataset is not
            stored as tfrecord.
    """
    info = builder.info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            "the dataset must be stored as tfrecord. "
            f"Received: {info.full_name} as {info.file_format.value}"
        )
    if shuffle_buffer < 1:
        raise ValueError(f"shuffle_buffer must be positive. Received: {shuffle_buffer}")
    instructions = _instructions(info, split)
    num_examples = sum(i.take for i in instructions)
    features = _features(info.features, image_key, label_key)
    parse = functools.partial(_parse, features, image_key, label_key)
    shards = Shards(num_examples, instructions, parse, shuffle_buffer)
    in_memory = _bytes_per_record(instructions) * num_examples <= _MEMORY_BYTES
    *image_size, channels = features[image_key].shape
    if not channels:  # unknown: None, which a prepared folder gives back as 0
        channels = channels_of(next(iter(shards.ordered()))["image"])
    name = f"{info.full_name} of TFDS, split {split}"
    class_names = tuple(features[label_key].names) if label_key in features else None
    log_classes(name, num_examples, class_names)
    return ImageData(
        name,
        num_examples,
        channels,
        None if None in image_size else tuple(image_size),
        class_names,
        _in_memory(shards) if in_memory else shards,
    )


def _first_line(error):
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _instructions(info, split):
    try:
        instructions = info.splits[split].file_instructions
    except Exception as error:  # TFDS raises several kinds for a wrong slice
        raise ValueError(
            f"split must be one of {sorted(info.splits)} or a slice of them. "
            f"Received: {split!r}"
        ) from error
    if not instructions:
        raise ValueError(f"split must not be empty. Received: {split!r}")
    folders = {os.path.dirname(i.filename) for i in instructions}
    present = {file for folder in folders for file in tf.io.gfile.listdir(folder)}
    for instruction in instructions:
        if os.path.basename(instruction.filename) not in present:
            raise ValueError(
                f"the dataset's record files must exist, for split {split!r}. "
                f"Received: no file {instruction.filename}"
            )
    return instructions


def _bytes_per_record(instructions):
    """An estimate from the first file, since TFDS does not know the size of slices."""
    first = instructions[0]
    return tf.io.gfile.stat(first.filename).length / first.examples_in_shard


def _features(features, image_key, label_key):
    """Only the image and label features, so that no other feature is parsed."""
    features = dict(features.items())
    image, label = features.get(image_key), features.get(label_key)
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
        known = _names_of(features, tfds.features.Image)
        raise ValueError(
            f"image_key must name a uint8 image feature of {known}. "
            f"Received: {image_key!r}"
        )
    if label_key is None or (label_key == "label" and label is None):
        return tfds.features.FeaturesDict({image_key: image})
    if not isinstance(label, tfds.features.ClassLabel):
        known = _names_of(features, tfds.features.ClassLabel)
        raise ValueError(
            f"label_key must be None or name a class feature of {known}. "
            f"Received: {label_key!r}"
        )
    return tfds.features.FeaturesDict({image_key: image, label_key: label})


def _names_of(features, kind):
    return [name for name, value in features.items() if isinstance(value, kind)]


def _parse(features, image_key, label_key, record):
    decoders = {image_key: tfds.decode.SkipDecoding()}
    example = features.deserialize_example(record, decoders=decoders)
    parsed = {"image": example[image_key]}
    if label_key in features:
        parsed["label"] = tf.cast(example[label_key], tf.int64)
    return parsed


def _in_memory(shards):
    """The examples of all files as rows, which are read once, at the first use."""

    @functools.cache
    def load():
        blocks = list(shards.ordered().batch(4096))
        return {key: tf.concat([b[key] for b in blocks], 0) for key in blocks[0]}

    def fetch(place):
        # Outside of the graph that is being traced, which then captures the examples as
        # an input; otherwise every graph would read them anew.
        with tf.init_scope(), tf.device("CPU"):
            examples = load()
        return {key: value[place] for key, value in examples.items()}

    def labels():
        return load()["label"].numpy()

    return Rows(shards.num_examples, fetch, shards.contents, labels)
