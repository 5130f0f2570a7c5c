"""Images come in an order that can be restarted anywhere, and decode exactly."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras import data
from byol_keras.data import decoding, image_data, tfds

from support.datasets import (
    GIF_TWO_FRAMES,
    bmp,
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
        monkeypatch.setattr(tfds, "_MEMORY_BYTES", -1)
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


# The order of a stream.


def test_every_pass_holds_every_image_once(source):
    n = source.num_examples
    expected = sorted(images_of(read(source, n, shuffle=False)))
    elements = read(source, 3 * n)
    for number in range(3):
        one_pass = elements[number * n : (number + 1) * n]
        assert sorted(images_of(one_pass)) == expected
        assert [e[1:3] for e in one_pass] == [(number, i) for i in range(n)]
    assert len(set(expected)) == n


def test_passes_and_seeds_have_orders_of_their_own(source):
    n = source.num_examples
    first, second = np.split(np.array(images_of(read(source, 2 * n))), 2)
    other = np.array(images_of(read(source, n, seed=2)))
    stored = np.sort(first)
    orders = {tuple(order) for order in (first, second, other, stored)}
    assert len(orders) == 4


@pytest.mark.parametrize("extra", [-2, 0, 3])
def test_a_stream_continues_where_it_was_left(source, extra):
    length = source.num_examples + extra
    whole = read(source, 3 * length, pass_length=length)
    for start in (length - 1, 2 * length + 2):
        rest = read(source, 5, start=start, pass_length=length)
        assert rest == whole[start : start + 5]


def test_a_longer_pass_goes_on_with_its_own_first_images(source):
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


def test_what_is_made_of_it_does_not_wait_for_a_tuner_when_it_ends(source):
    for dataset in (source.stream(seed=0), source.ordered()):
        batches = dataset.batch(2).prefetch(tf.data.AUTOTUNE)
        assert batches.options().autotune.enabled is False


def test_labels_stay_with_their_images(source):
    for image, _, _, label in read(source, source.num_examples):
        assert label == image % len(source.class_names)


def test_one_image_makes_an_endless_stream():
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
def test_a_stream_names_a_wrong_argument(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_arrays().stream(seed=0, **kwargs)


# Decoding.


@pytest.fixture(scope="module")
def odd_jpegs():
    """16 noisy colour JPEGs of odd sizes, with and without chroma subsampling."""
    rng = np.random.default_rng(0)
    return [
        tf.io.encode_jpeg(
            random_image(rng, 17 + 6 * i, 63 - 2 * i), chroma_downsampling=i % 2 == 0
        )
        for i in range(16)
    ]


def anonymous(channels):
    """`ImageData` of nothing, to decode with."""
    return image_data.ImageData("none", 0, channels, None, None, None)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_crop_equals_the_crop_of_the_whole(odd_jpegs, channels):
    rng = np.random.default_rng(1)
    source = anonymous(channels)
    decode_crops = tf.function(source.decode_crops)
    for jpeg in odd_jpegs:
        whole = source.decode(jpeg).numpy()
        height, width, _ = whole.shape
        assert source.shape(jpeg).numpy().tolist() == [height, width, channels]
        boxes = [(0, 0, height, width), (height - 1, width - 1, 1, 1)]
        for _ in range(6):
            top, left = rng.integers(0, height), rng.integers(0, width)
            boxes.append(
                (
                    top,
                    left,
                    rng.integers(1, height - top + 1),
                    rng.integers(1, width - left + 1),
                )
            )
        for top, left, h, w in boxes:
            box = tf.constant([top, left, h, w], tf.int32)
            crop = decode_crops(jpeg, [box])[0].numpy()
            np.testing.assert_array_equal(
                crop, whole[top : top + h, left : left + w], strict=True
            )


def test_crops_of_one_image_are_those_of_each_box(odd_jpegs):
    boxes = [[0, 1, 5, 4], [7, 3, 9, 30]]
    jpeg = odd_jpegs[0]
    for encoded in (jpeg, tf.io.encode_png(tf.io.decode_jpeg(jpeg))):
        crops = anonymous(3).decode_crops(encoded, boxes)
        for crop, box in zip(crops, boxes, strict=True):
            (alone,) = anonymous(3).decode_crops(encoded, [box])
            np.testing.assert_array_equal(crop, alone, strict=True)


def test_a_jpeg_crop_decoded_without_a_margin_would_differ(odd_jpegs, monkeypatch):
    source = anonymous(3)
    box = [5, 5, 9, 9]
    whole = source.decode(odd_jpegs[0]).numpy()[5:14, 5:14]
    assert (source.decode_crops(odd_jpegs[0], [box])[0].numpy() == whole).all()
    monkeypatch.setattr(decoding, "_JPEG_MARGIN", 0)
    assert (source.decode_crops(odd_jpegs[0], [box])[0].numpy() != whole).any()


def test_png_and_bmp_give_their_pixels_and_the_crop_of_them():
    image = random_image(np.random.default_rng(0))
    source = anonymous(3)
    for encoded in (tf.io.encode_png(image).numpy(), bmp(image)):
        np.testing.assert_array_equal(source.decode(encoded), image)
        assert source.shape(encoded).numpy().tolist() == [9, 7, 3]
        np.testing.assert_array_equal(
            source.decode_crops(encoded, [[2, 1, 5, 4]])[0], image[2:7, 1:5]
        )


def test_a_gif_gives_its_first_frame():
    pixels = anonymous(3).decode(GIF_TWO_FRAMES).numpy()
    assert pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_transparency_is_dropped_and_grey_is_repeated_for_three_channels():
    rng = np.random.default_rng(0)
    for stored, expected in ((1, [0, 0, 0]), (2, [0, 0, 0]), (4, [0, 1, 2])):
        image = random_image(rng, channels=stored)
        decoded = anonymous(3).decode(tf.io.encode_png(image))
        np.testing.assert_array_equal(decoded, image[..., expected])


def test_colour_becomes_luma_and_grey_stays_for_one_channel():
    rng = np.random.default_rng(0)
    grey, colour = random_image(rng, channels=2), random_image(rng, channels=3)
    decoded = anonymous(1).decode(tf.io.encode_png(grey))
    np.testing.assert_array_equal(decoded, grey[..., :1])
    luma = colour @ np.array([0.299, 0.587, 0.114])
    for encoded in (tf.io.encode_png(colour).numpy(), bmp(colour)):
        assert np.abs(anonymous(1).decode(encoded)[..., 0] - luma).max() <= 1


def test_decoded_images_stay_as_they_are():
    image = random_image(np.random.default_rng(0), channels=5)
    source = anonymous(5)
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


def test_jpegs_decode_as_pillow_decodes_them(odd_jpegs):
    for jpeg in odd_jpegs:
        expected = np.asarray(Image.open(io.BytesIO(jpeg.numpy())))
        np.testing.assert_array_equal(anonymous(3).decode(jpeg), expected)
