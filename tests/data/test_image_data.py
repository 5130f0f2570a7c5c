"""A stream can be restarted anywhere, and yields the same images in the same order."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import tfds_builders

from support.datasets import (
    make_arrays,
    make_folder,
    make_records,
    random_image,
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(params=["arrays", "folder", "records", "sharded records"])
def source(request, tmp_path, records, monkeypatch):
    if request.param == "arrays":
        return make_arrays()
    if request.param == "folder":
        return make_folder(tmp_path)
    if request.param == "sharded records":
        monkeypatch.setattr(tfds_builders, "_MEMORY_BYTES", -1)
    return data.tfds_folder(records, "train[3:30]", shuffle_buffer=5)


def identity(source, example):
    """The number that the first pixel of these sources holds."""
    return int(source.decode(example["image"])[0, 0, 0])


def read(source, count, **kwargs):
    """`(image, pass, index, label)` of the first `count` elements of a stream."""
    kwargs = {"seed": 1} | kwargs
    return [
        (
            identity(source, example),
            int(example["pass"]),
            int(example["index"]),
            int(example["label"]),
        )
        for example in source.stream(**kwargs).take(count)
    ]


def images_of(elements):
    return [element[0] for element in elements]


def test_every_pass_holds_every_image_once(source):
    n = source.num_examples
    expected = sorted(images_of(read(source, n, shuffle=False)))
    elements = read(source, 3 * n)
    for number in range(3):
        one_pass = elements[number * n : (number + 1) * n]
        assert sorted(images_of(one_pass)) == expected
        assert [e[1:3] for e in one_pass] == [(number, i) for i in range(n)]
    assert len(set(expected)) == n


def test_every_pass_and_seed_has_another_order(source):
    n = source.num_examples
    first, second = np.split(np.array(images_of(read(source, 2 * n))), 2)
    other = np.array(images_of(read(source, n, seed=2)))
    stored = np.sort(first)
    orders = {tuple(order) for order in (first, second, other, stored)}
    assert len(orders) == 4


@pytest.mark.parametrize("extra", [-2, 0, 3])
def test_a_stream_continues_where_another_stopped(source, extra):
    length = source.num_examples + extra
    whole = read(source, 3 * length, pass_length=length)
    for start in (length - 1, 2 * length + 2):
        rest = read(source, 5, start=start, pass_length=length)
        assert rest == whole[start : start + 5]


def test_a_longer_pass_repeats_its_own_first_images(source):
    n = source.num_examples
    elements = read(source, 2 * (n + 4), pass_length=n + 4)
    plain = read(source, n)
    assert images_of(elements[:n]) == images_of(plain)
    assert images_of(elements[n : n + 4]) == images_of(elements[:4])
    assert [e[1:3] for e in elements[n : n + 5]] == [
        (0, n),
        (0, n + 1),
        (0, n + 2),
        (0, n + 3),
        (1, 0),
    ]


def test_an_order_does_not_depend_on_the_global_seed(source):
    tf.random.set_seed(1)
    first = read(source, 8)
    tf.random.set_seed(2)
    assert read(source, 8) == first


def test_without_shuffling_every_pass_is_in_stored_order(source):
    stored = [identity(source, example) for example in source.ordered()]
    assert images_of(read(source, 2 * len(stored), shuffle=False)) == stored * 2
    assert stored == sorted(stored)


def test_no_pipeline_of_the_data_is_autotuned(source):
    for dataset in (source.stream(seed=0), source.ordered()):
        batches = dataset.batch(2).prefetch(tf.data.AUTOTUNE)
        assert batches.options().autotune.enabled is False


def test_labels_stay_with_their_images(source):
    for image, _, _, label in read(source, source.num_examples):
        assert label == image % len(source.class_names)


def test_one_image_is_repeated_without_end():
    source = data.arrays(np.full((1, 2, 2, 1), 7, np.uint8))
    elements = list(source.stream(seed=0).take(3))
    assert [int(e["pass"]) for e in elements] == [0, 1, 2]
    assert "label" not in elements[0]


def test_a_stream_runs_under_a_distribution_strategy(source):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    stream = source.stream(seed=1).map(lambda e: source.decode(e["image"])[0, 0, 0])
    batches = strategy.experimental_distribute_dataset(stream.batch(4))
    assert next(iter(batches)).numpy().tolist() == images_of(read(source, 4))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start": -1}, "start must not be negative. Received: -1"),
        ({"pass_length": 0}, "pass_length must be positive. Received: 0"),
    ],
)
def test_stream_names_a_wrong_argument(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_arrays().stream(seed=0, **kwargs)


def test_decoded_images_are_returned_unchanged():
    image = random_image(np.random.default_rng(0), channels=5)
    source = data.arrays(image[None])
    np.testing.assert_array_equal(source.decode(image), image)
    np.testing.assert_array_equal(
        source.decode_crops(image, [[1, 2, 3, 4]])[0], image[1:4, 2:6]
    )
    assert source.shape(image).numpy().tolist() == [9, 7, 5]


def test_static_shapes_are_set_where_they_are_known(tmp_path, records):
    embedded, folder = data.tfds_folder(records), make_folder(tmp_path)
    assert embedded.ordered().element_spec["image"].shape == [28, 28, 1]
    assert folder.ordered().element_spec["image"].shape.as_list() == [None, None, 1]
    crops = folder.stream(seed=0).map(
        lambda e: folder.decode_crops(e["image"], [[0] * 4])[0]
    )
    assert crops.element_spec.shape.as_list() == [None, None, 1]
    assert folder.stream(seed=0).element_spec["image"].shape == []
    assert make_arrays().stream(seed=0).element_spec["image"].shape == [2, 2, 1]


def test_unreadable_files_are_reported_once_they_are_read(tmp_path):
    source = make_folder(tmp_path, num_images=20)
    assert source.unreadable() == []
    (broken,) = tmp_path.glob("18/*.png")
    broken.write_bytes(b"")
    list(source.ordered())
    found = [(18, str(broken), "empty file")]
    assert source.unreadable() == source.unreadable(18, 19) == found
    assert source.unreadable(0, 18) == source.unreadable(19) == []


def test_data_without_files_have_no_unreadable_ones():
    source = make_arrays()
    list(source.ordered())
    assert source.unreadable() == []


def test_data_without_files_are_all_readable(in_shards):
    source = make_arrays()
    assert source.readable() is source
    assert in_shards.readable() is in_shards
    assert source.labels().tolist() == source.stored_labels().tolist()


@pytest.fixture
def in_shards(records, monkeypatch):
    monkeypatch.setattr(tfds_builders, "_MEMORY_BYTES", -1)
    return data.tfds_folder(records)


@pytest.mark.parametrize(
    ("use", "purpose"),
    [
        (lambda data: data.labels(), "where labels are needed at once"),
        (lambda data: data.stored_labels(), "where labels are needed at once"),
        (lambda data: data.subset(np.array([0]), "one"), "to take a subset"),
    ],
)
def test_data_too_large_for_memory_are_refused(in_shards, use, purpose):
    message = f"small enough for memory {purpose}; take a slice .*Received: fashion"
    with pytest.raises(ValueError, match=message):
        use(in_shards)


def test_places_in_record_files_are_unknown(in_shards):
    assert in_shards.places(seed=0, start=0, pass_length=40, count=4) is None
    assert len(make_arrays().places(seed=0, start=0, pass_length=11, count=4)) == 4


@pytest.mark.parametrize("places", [[], [-1], [11]])
def test_places_of_a_subset_are_within_the_data(places):
    with pytest.raises(ValueError, match=r"places must be one or more ints in 0\.\.10"):
        make_arrays().subset(np.array(places, int), "wrong")


def test_digest_changes_with_images_order_and_labels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 2, 2, 1), np.uint8)
    digests = {
        data.arrays(images, [0, 1, 2]).digest(),
        data.arrays(images, [0, 2, 1]).digest(),
        data.arrays(images[::-1], [2, 1, 0]).digest(),
        data.arrays(images).digest(),
    }
    assert len(digests) == 4
    assert data.arrays(images.copy(), [0, 1, 2]).digest() in digests
