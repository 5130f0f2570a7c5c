"""Where the examples of `ImageData` come from: rows by place, or files of records."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


def untuned() -> tf.data.Options:
    """Options of a pipeline that is not tuned as it runs: it has all cores at once.

    The thread that tunes sleeps up to a minute, and a pipeline that ends may have to
    wait until it wakes: a pass of 11 seconds then takes 20 (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples that are fetched by their place in stored order.

    Args:
        num_examples: int.
        fetch: int64 place -> dict of `"image"` and, where there are labels, `"label"`.
        contents: () -> bytes that tell these examples from others; see `file_stamps`.
        labels: () -> int64 `[N]` or `[N, classes]`, where there are labels.
        files: `bad_images.ReadableFiles`, where the examples are files, some of which
            others may have to replace.
    """

    num_examples: int
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    contents: Callable[[], Iterable[bytes]]
    labels: Callable[[], np.ndarray] | None = None
    files: Any = None

    def stream(self, seed, start, pass_length, shuffle):
        def element(position):
            number, index = position // pass_length, position % pass_length
            place = index % self.num_examples
            if shuffle:
                place = tf.random.experimental.index_shuffle(
                    place, _key(seed, number), max_index=self.num_examples - 1
                )
            return self._read(place) | {"pass": number, "index": index}

        return tf.data.Dataset.counter(start).map(element, **PARALLEL)

    def ordered(self):
        return tf.data.Dataset.range(self.num_examples).map(self._read, **PARALLEL)

    def subset(self, places):
        """The rows at these places, int64 `[M]`, in this order."""
        with tf.device("CPU"):
            chosen = tf.constant(places)
        return Rows(
            len(places),
            lambda place: self.fetch(chosen[place]),
            contents=lambda: (*self.contents(), places.tobytes()),
            labels=self.labels and (lambda: self.labels()[places]),
            files=self.files and self.files.subset(places),
        )

    def _read(self, place):
        return self.fetch(place if self.files is None else self.files.place(place))


@dataclasses.dataclass(frozen=True)
class Shards:
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
        return passes.skip(skipped).map(element, **PARALLEL)

    def ordered(self):
        records = self.records(key=None)
        cardinality = tf.data.experimental.assert_cardinality(self.num_examples)
        return records.map(self.parse, **PARALLEL).apply(cardinality)

    def contents(self):
        for i in self.instructions:
            yield repr((i.skip, i.take)).encode()
        yield from file_stamps([i.filename for i in self.instructions])

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
        # The order of `shuffle` also depends on the seed of the graph, which is the
        # process's global seed unless this graph, of one pass, has its own.
        tf.compat.v1.set_random_seed(1)
        seed = tf.random.stateless_uniform([], key, 1, tf.int64.max, tf.int64)
        buffer = min(self.shuffle_buffer, self.num_examples)
        return records.shuffle(buffer, seed, reshuffle_each_iteration=False)


def _key(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])


def file_stamps(paths: Iterable[str | os.PathLike]) -> Iterator[bytes]:
    """Name, size and time of change of each file: what `Rows.contents` may return."""
    for path in paths:
        status = os.stat(path)
        name = os.path.basename(path)
        yield repr((name, status.st_size, status.st_mtime_ns)).encode()
