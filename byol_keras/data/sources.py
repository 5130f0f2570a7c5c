"""Sources of `ImageData`: rows addressed by place, sequential record files, shares."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from byol_keras.data.reach import Reach
from byol_keras.data.readable_files import ReadableFiles
from byol_keras.data.unreadable import UnreadableFile

PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


def untuned() -> tf.data.Options:
    """Options that switch off autotuning, so that a pipeline ends at once.

    The tuning thread sleeps up to a minute, and a pipeline that ends may have to wait
    for it: a pass of 11 seconds then takes 20 (TensorFlow 2.21). Without autotuning,
    parallel operations use all cores.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


@runtime_checkable
class Source(Protocol):
    """What `ImageData.source` must have."""

    num_examples: int

    def stream(
        self, seed: int, start: int, pass_length: int, shuffle: bool
    ) -> tf.data.Dataset:
        """Endless dicts of `image`, `pass`, `index` and, with labels, `label`.

        The arguments are those of `ImageData.stream`; images may still be encoded.
        """

    def ordered(self) -> tf.data.Dataset:
        """One pass in stored order: dicts of `image` and, with labels, `label`.

        Unreadable images are left out.
        """

    def contents(self) -> Iterable[bytes]:
        """Bytes that differ where the examples differ; see `file_stamps`."""

    def unreadable(self, start: int, stop: int) -> list[UnreadableFile]:
        """Files at places `start..stop - 1` that were found to be unreadable so far."""


@runtime_checkable
class IndexedSource(Source, Protocol):
    """A source that finds an example by its place, as labels and subsets require."""

    def labels(self) -> np.ndarray:
        """int64 `[N]` or `[N, classes]`; only where there are labels."""

    def readable_places(self) -> np.ndarray:
        """Places of all images that can be read, int64 `[M]`; examines them all."""

    def subset(self, places: np.ndarray) -> "IndexedSource":
        """The examples at these places, int64 `[M]`, in this order."""

    def places(self, seed: int, start: int, pass_length: int, count: int) -> list[int]:
        """Places of the examples `start..start + count - 1` of a shuffled stream."""


def _no_labels():
    raise ValueError("source must have labels. Received: a source without them")


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples that are fetched by their place in stored order; an `IndexedSource`.

    Args:
        num_examples: int.
        fetch: int64 place -> dict of `"image"`, unless `files` are given, and, where
            there are labels, `"label"`.
        contents: see `Source.contents`.
        labels: see `IndexedSource.labels`. Defaults to an error.
        files: reads images from files, and replaces unreadable ones; None where
            examples are no files.
    """

    num_examples: int
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    contents: Callable[[], Iterable[bytes]]
    labels: Callable[[], np.ndarray] = _no_labels
    files: ReadableFiles | None = None

    def stream(self, seed, start, pass_length, shuffle):
        def element(position):
            number, index = position // pass_length, position % pass_length
            place = index % self.num_examples
            if shuffle:
                place = tf.random.experimental.index_shuffle(
                    place, _key(seed, number), max_index=self.num_examples - 1
                )
            return self._read(place)[1] | {"pass": number, "index": index}

        return tf.data.Dataset.counter(start).map(element, **PARALLEL)

    def ordered(self):
        places = tf.data.Dataset.range(self.num_examples)
        if self.files is None:
            return places.map(self.fetch, **PARALLEL)

        def read(place):
            source, example = self._read(place)
            return source == place, example

        examples = places.map(read, **PARALLEL)
        # An unreadable image is left out, and not replaced.
        examples = examples.filter(lambda is_own, _: is_own)
        return examples.map(lambda _, example: example)

    def readable_places(self):
        if self.files is None:
            return np.arange(self.num_examples)
        return self.files.readable_places()

    def unreadable(self, start, stop):
        return self.files.unreadable(start, stop) if self.files else []

    def subset(self, places):
        with tf.device("CPU"):
            chosen = tf.constant(places)
        return Rows(
            len(places),
            lambda place: self.fetch(chosen[place]),
            contents=lambda: (*self.contents(), places.tobytes()),
            labels=lambda: self.labels()[places],
            files=self.files and self.files.subset(places),
        )

    def places(self, seed, start, pass_length, count):
        only_places = dataclasses.replace(self, fetch=lambda place: {"place": place})
        stream = only_places.stream(seed, start, pass_length, shuffle=True)
        return [int(element["place"]) for element in stream.take(count)]

    def _read(self, place):
        """The place that is read, and its example."""
        if self.files is None:
            return place, self.fetch(place)
        source, image = self.files.read(place)
        return source, {"image": image} | self.fetch(source)


@dataclasses.dataclass(frozen=True)
class Shards:
    """Examples in record files that are too large for memory, read sequentially.

    A pass shuffles the order of the files, mixes 16 of them at a time, and shuffles
    the records within a buffer.

    Args:
        num_examples: int.
        instructions: of TFDS: which records to read from which file.
        parse: string scalar, a record -> dict of `"image"` and, where there are labels,
            `"label"`.
        shuffle_buffer: int. Records in the buffer.
    """

    num_examples: int
    instructions: Sequence
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
        return passes.skip(skipped).map(element, **PARALLEL)

    def ordered(self):
        records = self.records(key=None)
        cardinality = tf.data.experimental.assert_cardinality(self.num_examples)
        return records.map(self.parse, **PARALLEL).apply(cardinality)

    def contents(self):
        for i in self.instructions:
            os.stat(i.filename)  # unlike an image, it must be there
            yield repr((i.skip, i.take)).encode()
        yield from file_stamps([i.filename for i in self.instructions])

    def unreadable(self, start, stop):
        return []

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
            read, cycle_length=1 if key is None else 16, **PARALLEL
        )
        if key is None:
            return records
        # The order of `shuffle` also depends on the graph's seed, which is the global
        # seed of the process unless this graph, of one pass, sets its own.
        tf.compat.v1.set_random_seed(1)
        seed = tf.random.stateless_uniform([], key, 1, tf.int64.max, tf.int64)
        buffer = min(self.shuffle_buffer, self.num_examples)
        return records.shuffle(buffer, seed, reshuffle_each_iteration=False)


@dataclasses.dataclass(frozen=True)
class Share:
    """The examples that one of several workers trains on.

    Every batch of the run is cut into one part per worker. The examples of other
    workers are read as they are stored, but neither decoded nor augmented.

    Args:
        whole: the source of all workers.
        batch_size: int. Images of one step of the run.
        workers: int. Number of workers, a divisor of `batch_size`.
        worker: int. Index of this worker.
    """

    whole: Source
    batch_size: int
    workers: int
    worker: int

    @property
    def num_examples(self):
        return self.whole.num_examples

    def stream(self, seed, start, pass_length, shuffle):
        part = self.batch_size // self.workers

        def is_mine(place, _):
            return place % self.batch_size // part == self.worker

        elements = self.whole.stream(seed, start, pass_length, shuffle).enumerate()
        return elements.filter(is_mine).map(lambda _, element: element)

    def ordered(self):
        return self.whole.ordered()

    def contents(self):
        return self.whole.contents()

    def unreadable(self, start, stop):
        return self.whole.unreadable(start, stop)


def file_stamps(paths: Sequence[str | os.PathLike]) -> Iterator[bytes]:
    """Name, size and modification time of each file, for `Source.contents`.

    A file that cannot be found, as a link to nothing, counts with its name.

    Raises:
        OutOfReach: see `reach.Reach.wait`.
    """
    reach = Reach(paths)
    for path in paths:
        status = _status(path)
        if status is None:
            reach.wait(path)
            status = _status(path)
        yield repr((os.path.basename(path), *(status or ("missing",)))).encode()


def _status(path):
    """Size and modification time; None if the file cannot be found."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _key(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])
