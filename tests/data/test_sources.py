"""Every source has the declared protocol; shares of workers cover each batch once."""

import os

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import sources, tfds_builders

from support.datasets import BATCH, make_arrays, make_folder, make_records, small_views


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builders, "_MEMORY_BYTES", -1)
    return data.tfds_folder(make_records(tmp_path / "records"), shuffle_buffer=4)


@pytest.fixture(params=["arrays", "folder", "shards"])
def source(request, tmp_path):
    if request.param == "arrays":
        return make_arrays(num_examples=20)
    if request.param == "folder":
        return make_folder(tmp_path)
    return request.getfixturevalue("sharded")


def test_every_source_and_its_share_have_the_protocol(source):
    assert isinstance(source.source, sources.Source)
    assert isinstance(source.share(BATCH, 2, 0).source, sources.Source)


def test_only_rows_are_indexed(sharded):
    assert isinstance(make_arrays().source, sources.IndexedSource)
    assert not isinstance(sharded.source, sources.IndexedSource)
    assert not isinstance(
        make_arrays().share(BATCH, 2, 0).source, sources.IndexedSource
    )
    assert not isinstance(object(), sources.Source)


def test_places_are_those_of_the_shuffled_stream():
    source = make_arrays(num_examples=10)
    stream = source.stream(seed=3, start=7).take(5)
    shown = [int(element["image"][0, 0, 0]) for element in stream]
    assert source.source.places(3, 7, 10, 5) == shown


def test_rows_without_labels_are_indexed_but_have_none():
    rows = data.arrays(np.zeros((3, 2, 2, 1), np.uint8)).source
    assert isinstance(rows, sources.IndexedSource)
    for source in (rows, rows.subset(np.array([0]))):
        with pytest.raises(ValueError, match="source must have labels"):
            source.labels()


def test_rows_of_a_subset_keep_labels_and_contents_of_their_own():
    rows = make_arrays(num_examples=6).source
    subset = rows.subset(np.array([4, 1]))
    assert subset.num_examples == 2
    assert subset.labels().tolist() == [4, 1]
    assert list(subset.contents()) != list(rows.contents())
    assert [int(x["label"]) for x in subset.ordered()] == [4, 1]


def first_batches(dataset, number=4):
    return [view1.numpy() for view1, _ in dataset.take(number)]


@pytest.mark.parametrize("start", [0, 3 * BATCH])
def test_shares_of_a_batch_are_disjoint_and_together_the_batch(source, start):
    arguments = {"seed": 0, "start": start}
    whole = first_batches(small_views().dataset(source, BATCH, **arguments))
    parts = [
        first_batches(
            small_views().dataset(source.share(BATCH, 2, n), BATCH // 2, **arguments)
        )
        for n in range(2)
    ]
    for batch, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch, np.concatenate(halves))


def test_each_example_is_read_by_one_of_four_workers():
    source = make_arrays(num_examples=24)
    seen = []
    for worker in range(4):
        elements = source.share(BATCH, 4, worker).stream(seed=0).take(6)
        seen += [int(element["image"][0, 0, 0]) for element in elements]
    assert sorted(seen) == list(range(24))


def test_file_stamps_change_with_name_size_and_time(tmp_path):
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    first.write_bytes(b"a")
    second.write_bytes(b"a")
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(1, 1))
    stamp, other = sources.file_stamps([first, second])
    assert stamp != other
    os.utime(first, ns=(1, 2))
    assert list(sources.file_stamps([first])) != [stamp]
    os.utime(first, ns=(1, 1))
    assert list(sources.file_stamps([first])) == [stamp]
    first.write_bytes(b"ab")
    os.utime(first, ns=(1, 1))
    assert list(sources.file_stamps([first])) != [stamp]


def test_stamp_of_a_missing_file_is_its_name(tmp_path):
    link = tmp_path / "1.txt"
    link.symlink_to(tmp_path / "nothing")
    (tmp_path / "3.txt").write_bytes(b"a")
    paths = [link, tmp_path / "2.txt", tmp_path / "3.txt"]
    gone, other, there = sources.file_stamps(paths)
    assert gone != other
    (tmp_path / "nothing").write_bytes(b"a")
    found = list(sources.file_stamps(paths))
    assert found[0] != gone and found[1:] == [other, there]


def test_a_missing_record_file_is_refused(sharded, tmp_path):
    assert sharded.digest()
    for path in (tmp_path / "records").rglob("*.tfrecord*"):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        sharded.digest()


def test_all_places_are_readable_where_examples_are_no_files():
    assert make_arrays(num_examples=3).source.readable_places().tolist() == [0, 1, 2]


def test_untuned_pipelines_have_no_autotuning():
    dataset = tf.data.Dataset.range(3).with_options(sources.untuned())
    assert dataset.options().autotune.enabled is False
