"""Images from TFDS, prepared TFDS folders, image folders, IDX files and arrays.

Every constructor returns an `ImageData`, which reads them in a reproducible order.
"""

import dataclasses
import difflib
import functools
import gzip
import importlib.resources
import importlib.util
import io
import math
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Sequence

import gin
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
TIFF_SUFFIXES = (".tif", ".tiff")

# Records up to this size in all are held in memory. CIFAR-10 takes 150 MB of it,
# ImageNet would take 150 GB.
_MEMORY_BYTES = 256 << 20

# Gives the pixels that Pillow, and so torchvision, decodes. TensorFlow's default
# transform is left to the platform.
_JPEG = {"dct_method": "INTEGER_ACCURATE", "fancy_upscaling": True}

# Chroma is interpolated between neighbours, which a crop decoded alone lacks at its
# border: that many more pixels are decoded on every side and cut off again.
_JPEG_MARGIN = 2

_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images, and labels where there are any, that are read in a reproducible order.

    Args:
        name: str. Where the data come from, for messages and the dry run.
        num_examples: int.
        channels: int. Of every decoded image.
        image_size: `(height, width)` where all images share it, else None.
        class_names: names of the classes, or None for data without labels.
        source: reads the stored examples; made by the constructors below.
    """

    name: str
    num_examples: int
    channels: int
    image_size: tuple[int, int] | None
    class_names: tuple[str, ...] | None
    source: "_Rows | _Shards" = dataclasses.field(repr=False)

    def stream(
        self,
        seed: int,
        start: int = 0,
        pass_length: int | None = None,
        shuffle: bool = True,
    ) -> tf.data.Dataset:
        """Endless passes over the data, each in an order of its own.

        Element `start + i` is a pure function of `(seed, pass, index)`, where
        `pass, index = divmod(start + i, pass_length)`. Hence `stream(seed, start=k)`
        yields what `stream(seed)` yields from its element `k` on.

        Args:
            seed: int. Another seed gives other orders.
            start: int. The first element. Defaults to 0.
            pass_length: int. Elements per pass. Beyond `num_examples`, a pass goes on
                with its own first elements again; below it, the last ones are left
                out. Defaults to `num_examples`.
            shuffle: bool. False keeps the stored order in every pass.

        Returns:
            Dataset of dicts: `"image"`, uint8 `[h, w, channels]` or, where it is still
            encoded, a string scalar; `"pass"` and `"index"`, int64; and `"label"`,
            int64, where there are labels.

        Raises:
            ValueError: if `start` is negative or `pass_length` not positive.
        """
        if pass_length is None:
            pass_length = self.num_examples
        if pass_length < 1:
            raise ValueError(f"pass_length must be positive. Received: {pass_length}")
        if start < 0:
            raise ValueError(f"start must not be negative. Received: {start}")
        return self.source.stream(seed, start, pass_length, shuffle)

    def ordered(self) -> tf.data.Dataset:
        """One pass in stored order, decoded.

        Returns:
            Dataset of `num_examples` dicts: `"image"`, uint8 `[h, w, channels]`, and
            `"label"`, int64, where there are labels.
        """

        def decoded(example):
            return example | {"image": self.decode(example["image"])}

        return self.source.ordered().map(decoded, **_PARALLEL)

    def shape(self, image) -> tf.Tensor:
        """int32 `[3]`: height, width, channels; of a JPEG without decoding it."""
        if self.image_size is not None:
            return tf.constant([*self.image_size, self.channels])
        image = tf.convert_to_tensor(image)
        if image.dtype == tf.uint8:
            return tf.shape(image)
        size = tf.cond(
            tf.io.is_jpeg(image),
            lambda: tf.io.extract_jpeg_shape(image)[:2],
            lambda: tf.shape(self._decode_other(image))[:2],
        )
        return tf.concat([size, [self.channels]], axis=0)

    def decode(self, image) -> tf.Tensor:
        """uint8 `[h, w, channels]` of an image that may be decoded already.

        Grey is repeated where three channels are due, colour becomes its luma where
        one is. Transparency is dropped, and so are all frames but the first.
        """
        image = tf.convert_to_tensor(image)
        if image.dtype == tf.uint8:
            return image
        image = tf.cond(
            tf.io.is_jpeg(image),
            lambda: tf.io.decode_jpeg(image, self._jpeg_channels, **_JPEG),
            lambda: self._decode_other(image),
        )
        image.set_shape([*(self.image_size or (None, None)), self.channels])
        return image

    def decode_crop(self, image, box) -> tf.Tensor:
        """`decode(image)[top : top + height, left : left + width]`, pixel for pixel.

        Of a JPEG only the crop is decoded.

        Args:
            image: uint8 `[h, w, channels]` or a string scalar.
            box: int32 `[4]`: top, left, height, width; within the image.

        Returns:
            uint8 `[height, width, channels]`.
        """
        image, box = tf.convert_to_tensor(image), tf.convert_to_tensor(box, tf.int32)
        if image.dtype == tf.uint8:
            return _slice(image, box[:2], box[2:])
        crop = tf.cond(
            tf.io.is_jpeg(image),
            lambda: self._crop_jpeg(image, box),
            lambda: _slice(self._decode_other(image), box[:2], box[2:]),
        )
        crop.set_shape([None, None, self.channels])
        return crop

    @property
    def _jpeg_channels(self) -> int:
        return 1 if self.channels == 1 else 3

    def _crop_jpeg(self, image, box):
        begin = tf.maximum(box[:2] - _JPEG_MARGIN, 0)
        end = tf.minimum(
            box[:2] + box[2:] + _JPEG_MARGIN, tf.io.extract_jpeg_shape(image)[:2]
        )
        crop = tf.io.decode_and_crop_jpeg(
            image, tf.concat([begin, end - begin], 0), self._jpeg_channels, **_JPEG
        )
        return _slice(crop, box[:2] - begin, box[2:])

    def _decode_other(self, image):
        # Asked for a channel count, decode_image refuses some formats (grey BMP and
        # GIF, transparent WebP), so it gives what is stored and we convert.
        image = _decode_as_stored(image)
        if self.channels not in (1, 3):
            return image
        is_colour = tf.shape(image)[-1] >= 3
        if self.channels == 3:
            return tf.cond(
                is_colour,
                lambda: image[..., :3],
                lambda: tf.repeat(image[..., :1], 3, axis=-1),
            )
        return tf.cond(
            is_colour,
            lambda: tf.image.rgb_to_grayscale(
                tf.ensure_shape(image[..., :3], [None, None, 3])
            ),
            lambda: image[..., :1],
        )


@gin.register
def tfds_dataset(
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    manual_dir: str | None = None,
    download: bool = True,
    image_key: str = "image",
    label_key: str | None = "label",
    shuffle_buffer: int = 50_000,
) -> ImageData:
    """Any dataset of TensorFlow Datasets; it is downloaded if it is not prepared yet.

    Args:
        name: str. With configuration and version where needed: `"cifar10:3.0.2"`.
        split: str. Also slices, such as `"train[:90%]"`, and sums.
        data_dir: folder of prepared datasets. Defaults to that of TFDS.
        manual_dir: folder of files that have to be downloaded by hand, where the
            dataset (ImageNet, for one) asks for that.
        download: bool. False: only what is prepared already.
        image_key: name of the image feature.
        label_key: name of the class feature. None: without labels. A dataset that has
            no feature of the default name is read without labels.
        shuffle_buffer: int. Only for splits of more than 256 MB: so many encoded
            images are held in memory to be shuffled, after the record files have been.
            Smaller splits are held in memory and shuffled completely.

    Returns:
        `ImageData` of the split.

    Raises:
        ValueError: if the name, the split or a feature does not exist, or the dataset
            cannot be prepared.
    """
    builder = _find_builder(name, data_dir)
    if not builder.is_prepared():
        _prepare(builder, name, manual_dir, download)
    return _from_builder(builder, split, image_key, label_key, shuffle_buffer)


@gin.register
def tfds_folder(
    path: str | os.PathLike,
    split: str = "train",
    image_key: str = "image",
    label_key: str | None = "label",
    shuffle_buffer: int = 50_000,
) -> ImageData:
    """A folder that TFDS has prepared: dataset_info.json, features.json, records.

    Args:
        path: the folder that holds dataset_info.json, as `.../cifar10/3.0.2`.
        split, image_key, label_key, shuffle_buffer: see `tfds_dataset`.

    Returns:
        `ImageData` of the split.

    Raises:
        ValueError: if the folder is not a prepared dataset, or the split or a feature
            does not exist.
    """
    path = _existing_folder(path)
    try:
        builder = tfds.builder_from_directory(path)
    except Exception as error:  # a missing or a broken file of metadata
        raise ValueError(
            "path must be a prepared TFDS folder, with dataset_info.json and "
            f"features.json ({_first_line(error)}). Received: {path}"
        ) from error
    return _from_builder(builder, split, image_key, label_key, shuffle_buffer)


@gin.register
def fashion_mnist_small(split: str = "train") -> ImageData:
    """The dataset in this package: 10,000 train and 2,000 test images, 28 x 28 grey.

    Source: Fashion-MNIST (arXiv 1708.07747); the selection is that of
        assets/make_fashion_mnist_small.py.
    """
    assets = importlib.resources.files(__package__) / "assets"
    return tfds_folder(os.fspath(assets / "fashion_mnist_small" / "1.0.0"), split)


@gin.register
def fashion_mnist_idx(path: str | os.PathLike, split: str = "train") -> ImageData:
    """The original IDX files of Fashion-MNIST: 60,000 train and 10,000 test images.

    Args:
        path: folder of the four files, gzipped or not; Debian's package
            dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: if a file is missing or is no such IDX file.
    """
    images, labels = read_fashion_mnist_idx(path, split)
    name = f"Fashion-MNIST IDX files in {path}, split {split}"
    return _from_arrays(name, images, labels, FASHION_MNIST_CLASSES)


@gin.register
def image_folder(path: str | os.PathLike, channels: int | None = None) -> ImageData:
    """All images below a folder, in the order of their relative paths.

    JPEG, PNG, BMP, GIF, WebP, and TIFF where Pillow is installed; hidden files and
    folders are left out. Where all images lie in sub-folders, the first level of
    sub-folders are the classes; else there are no labels.

    Args:
        path: the folder.
        channels: 1 or 3. Defaults to that of the first images, 3 if they disagree.

    Returns:
        `ImageData` of encoded images of any size.

    Raises:
        ValueError: if there is no such folder, no image in it, or one of the first 16
            images cannot be decoded.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be None, 1 or 3. Received: {channels!r}")
    folder = _existing_folder(path)
    files = _without_unreadable_tiffs(_image_files(folder), folder)
    paths = [os.path.join(folder, file) for file in files]
    found = {_channels_of_file(path) for path in paths[:16]}
    if channels is None:
        channels = found.pop() if len(found) == 1 else 3
    class_names, labels = None, None
    if all("/" in file for file in files):
        classes = [file.split("/")[0] for file in files]
        class_names = tuple(sorted(set(classes)))
        label_of = {name: label for label, name in enumerate(class_names)}
        labels = [label_of[name] for name in classes]
    rows = _Rows(len(paths), _fetch_files(paths, labels))
    return ImageData(
        f"images in {folder}", len(paths), channels, None, class_names, rows
    )


@gin.register
def arrays(images: np.ndarray, labels: np.ndarray | None = None) -> ImageData:
    """Images in memory, of any number of channels.

    Args:
        images: uint8 `[N, H, W, C]`, or `[N, H, W]` for one channel.
        labels: integers `[N]`, from 0 on, or None.

    Raises:
        ValueError: if a dtype or a shape is another.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8. Received: {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            "images must be of shape [N, H, W, C] or [N, H, W], none of them 0. "
            f"Received: {images.shape}"
        )
    class_names = None
    if labels is not None:
        labels = _checked_labels(np.asarray(labels), len(images))
        class_names = tuple(str(label) for label in range(labels.max() + 1))
    name = f"arrays of shape {images.shape}"
    return _from_arrays(name, images, labels, class_names)


def read_fashion_mnist_idx(
    path: str | os.PathLike, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split of the Fashion-MNIST (or MNIST) IDX files.

    Returns:
        uint8 `[N, 28, 28, 1]` and uint8 `[N]`.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise ValueError(f"split must be 'train' or 'test'. Received: {split!r}")
    folder = _existing_folder(path)
    images = _read_idx(folder, f"{prefixes[split]}-images-idx3-ubyte", dimensions=3)
    labels = _read_idx(folder, f"{prefixes[split]}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise ValueError(
            "path must hold as many labels as images. "
            f"Received: {len(labels)} and {len(images)} in {folder}"
        )
    return images[..., None], labels


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Examples that are fetched by their place in stored order."""

    num_examples: int
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]]

    def stream(self, seed, start, pass_length, shuffle):
        def element(position):
            number, index = position // pass_length, position % pass_length
            place = index % self.num_examples
            if shuffle:
                place = tf.random.experimental.index_shuffle(
                    place, _key(seed, number), max_index=self.num_examples - 1
                )
            return self.fetch(place) | {"pass": number, "index": index}

        return tf.data.Dataset.counter(start).map(element, **_PARALLEL)

    def ordered(self):
        return tf.data.Dataset.range(self.num_examples).map(self.fetch, **_PARALLEL)


@dataclasses.dataclass(frozen=True)
class _Shards:
    """Examples in record files that are too large for memory: read one after another.

    A pass shuffles the order of the files, mixes 16 of them at a time, and shuffles
    the records within a buffer.
    """

    num_examples: int
    instructions: Sequence  # of TFDS: what to read from which file
    parse: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    shuffle_buffer: int

    def stream(self, seed, start, pass_length, shuffle):
        first_pass, skipped = divmod(start, pass_length)

        def one_pass(number):
            records = self.records(_key(seed, number) if shuffle else None)
            records = records.repeat().take(pass_length)
            position = tf.data.Dataset.range(pass_length)
            numbers = tf.data.Dataset.from_tensors(number).repeat()
            return tf.data.Dataset.zip(records, numbers, position)

        def element(record, number, index):
            return self.parse(record) | {"pass": number, "index": index}

        passes = tf.data.Dataset.counter(first_pass).flat_map(one_pass)
        return passes.skip(skipped).map(element, **_PARALLEL)

    def ordered(self):
        records = self.records(key=None)
        cardinality = tf.data.experimental.assert_cardinality(self.num_examples)
        return records.map(self.parse, **_PARALLEL).apply(cardinality)

    def records(self, key):
        """The serialized records of one pass; in stored order where `key` is None."""
        paths = tf.constant([os.fspath(i.filename) for i in self.instructions])
        skips = tf.constant([i.skip for i in self.instructions], tf.int64)
        takes = tf.constant([i.take for i in self.instructions], tf.int64)

        def read(place):
            if key is not None:
                place = tf.random.experimental.index_shuffle(
                    place, key, max_index=len(self.instructions) - 1
                )
            records = tf.data.TFRecordDataset(paths[place])
            return records.skip(skips[place]).take(takes[place])

        records = tf.data.Dataset.range(len(self.instructions)).interleave(
            read, cycle_length=1 if key is None else 16, **_PARALLEL
        )
        if key is None:
            return records
        # The order of `shuffle` also depends on the seed of the graph, which is the
        # process's global seed unless this graph, of one pass, has its own.
        tf.compat.v1.set_random_seed(1)
        seed = tf.random.stateless_uniform([], key, 1, tf.int64.max, tf.int64)
        buffer = min(self.shuffle_buffer, self.num_examples)
        return records.shuffle(buffer, seed, reshuffle_each_iteration=False)


def _key(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])


def _slice(image, begin, size):
    return image[begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]]


def _decode_as_stored(image):
    """uint8 `[h, w, c]` of any format but TIFF; the first frame of an animation."""
    image = tf.io.decode_image(image, expand_animations=False)
    image.set_shape([None, None, None])
    return image


def _channels_of(image) -> int:
    """1 for grey and 3 for colour, transparency apart; the image is encoded."""
    return 3 if _decode_as_stored(image).shape[-1] >= 3 else 1


def _existing_folder(path) -> pathlib.Path:
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        raise ValueError(f"path must be an existing folder. Received: {path}")
    return path


def _find_builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises many kinds for a wrong name or version
        known = tfds.list_builders()
        if re.split("[/:]", name)[0] in known:
            reason = _first_line(error)
        else:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            reason = f"nearest: {', '.join(near) or 'none'}"
        raise ValueError(
            f"tfds_dataset.name must be a dataset of TFDS ({reason}). Received: {name}"
        ) from error


def _prepare(builder, name, manual_dir, download):
    if not download:
        raise ValueError(
            "tfds_dataset.name must be a prepared dataset where download is False. "
            f"Received: {name}, not in {builder.data_dir}"
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


def _first_line(error):
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _from_builder(builder, split, image_key, label_key, shuffle_buffer):
    """`ImageData` of a prepared dataset."""
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
    shards = _Shards(num_examples, instructions, parse, shuffle_buffer)
    in_memory = _bytes_per_record(instructions) * num_examples <= _MEMORY_BYTES
    *image_size, channels = features[image_key].shape
    if not channels:  # unknown: None, which a prepared folder gives back as 0
        channels = _channels_of(next(iter(shards.ordered()))["image"])
    return ImageData(
        f"{info.full_name} of TFDS, split {split}",
        num_examples,
        channels,
        None if None in image_size else tuple(image_size),
        tuple(features[label_key].names) if label_key in features else None,
        _in_memory(shards) if in_memory else shards,
    )


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
    """An estimate from the first file, since TFDS knows no size of slices."""
    first = instructions[0]
    return tf.io.gfile.stat(first.filename).length / first.examples_in_shard


def _features(features, image_key, label_key):
    """The image and label features, so that nothing else of a record is parsed."""
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
    """The examples of all files as rows; they are read once, at the first use."""

    @functools.cache
    def load():
        blocks = list(shards.ordered().batch(4096))
        return {key: tf.concat([b[key] for b in blocks], 0) for key in blocks[0]}

    def fetch(place):
        # Out of the graph that is being traced: it captures the examples as an input,
        # where they would otherwise be read for every graph anew.
        with tf.init_scope(), tf.device("CPU"):
            examples = load()
        return {key: value[place] for key, value in examples.items()}

    return _Rows(shards.num_examples, fetch)


def _from_arrays(name, images, labels, class_names):
    if images.ndim == 3:
        images = images[..., None]
    # Made once and captured by every dataset, never a constant of a graph; on the
    # host, since an accelerator's memory is for the model.
    with tf.device("CPU"):
        images = tf.constant(images)
        if labels is not None:
            labels = tf.constant(labels, tf.int64)

    def fetch(place):
        example = {"image": images[place]}
        return example if labels is None else example | {"label": labels[place]}

    height, width, channels = images.shape[1:]
    rows = _Rows(len(images), fetch)
    return ImageData(name, len(images), channels, (height, width), class_names, rows)


def _checked_labels(labels, num_images):
    if labels.shape != (num_images,):
        raise ValueError(
            f"labels must be of shape ({num_images},), one per image. "
            f"Received: {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            "labels must be integers from 0 on. "
            f"Received: {labels.dtype} from {labels.min()}"
        )
    return labels


def _image_files(folder):
    """Relative paths with "/" of all image files below the folder, sorted."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = pathlib.Path(parent).relative_to(folder)
        files += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".")
            and name.lower().endswith(IMAGE_SUFFIXES + TIFF_SUFFIXES)
        ]
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES + TIFF_SUFFIXES)
        raise ValueError(f"path must hold images ({suffixes}). Received: {folder}")
    return sorted(files)


def _is_tiff(path):
    return path.lower().endswith(TIFF_SUFFIXES)


def _without_unreadable_tiffs(files, folder):
    if importlib.util.find_spec("PIL"):
        return files
    kept = [file for file in files if not _is_tiff(file)]
    if not kept:
        raise ValueError(
            "path must hold images other than TIFF, unless Pillow is installed: "
            f"pip install pillow. Received: {folder}"
        )
    if len(kept) < len(files):
        logging.warning(
            "%d TIFF images in %s are left out, as they need Pillow: "
            "pip install pillow",
            len(files) - len(kept),
            folder,
        )
    return kept


def _channels_of_file(path):
    try:
        data = tf.io.read_file(path)
        if _is_tiff(path):
            data = _tiff_as_png(data.numpy())
        return _channels_of(data)
    except Exception as error:  # of TensorFlow or Pillow, for bytes that are no image
        raise ValueError(
            "path must hold readable images only; remove this one or repair it. "
            f"Received: {path}"
        ) from error


def _tiff_as_png(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):
            image = image.convert("RGB")
        png = io.BytesIO()
        image.save(png, "png", compress_level=1)
    return png.getvalue()


def _fetch_files(paths, labels):
    any_tiff = any(_is_tiff(path) for path in paths)
    with tf.device("CPU"):
        paths = tf.constant(paths)
        labels = None if labels is None else tf.constant(labels, tf.int64)

    def as_png(data):
        png = tf.numpy_function(_tiff_as_png, [data], tf.string, stateful=False)
        return tf.ensure_shape(png, [])

    def fetch(place):
        data = tf.io.read_file(paths[place])
        if any_tiff:
            lower = tf.strings.lower(paths[place])
            is_tiff = tf.strings.regex_full_match(lower, r".*\.tiff?")
            data = tf.cond(is_tiff, lambda: as_png(data), lambda: data)
        example = {"image": data}
        return example if labels is None else example | {"label": labels[place]}

    return fetch


def _read_idx(folder, file, dimensions):
    """uint8 array of an IDX file: magic number, sizes, then the bytes."""
    path = folder / file
    if not path.is_file():
        path = folder / f"{file}.gz"
    if not path.is_file():
        raise ValueError(
            f"path must hold {file} or {file}.gz. Received: {folder} without it"
        )
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            data = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"path must hold readable files. Received: {path}") from error
    header = 4 * (dimensions + 1)
    numbers = np.frombuffer(data[:header].ljust(header), ">u4").tolist()
    magic, shape = numbers[0], numbers[1:]
    if magic != 0x800 + dimensions or len(data) != header + math.prod(shape):
        raise ValueError(
            f"path must hold complete IDX files of uint8 data with {dimensions} "
            f"dimensions. Received: {path}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
