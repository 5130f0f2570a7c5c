"""Every source gives the right images, in an order that can be restarted anywhere."""

import gzip
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil

import gin
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from byol_keras import data
from byol_keras.assets import make_fashion_mnist_small as maker

IDX_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
needs_idx = pytest.mark.skipif(
    not IDX_FOLDER.is_dir(), reason="the IDX files of Fashion-MNIST are not installed"
)
needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="Pillow is not installed"
)


# Small sources of every kind.


def random_image(rng, height=9, width=7, channels=3):
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path, encoded):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.numpy() if hasattr(encoded, "numpy") else encoded)


def make_arrays(num_examples=11):
    images = np.arange(num_examples, dtype=np.uint8)[:, None, None, None]
    return data.arrays(
        np.broadcast_to(images, (num_examples, 2, 2, 1)), np.arange(num_examples)
    )


def make_folder(path, num_images=11):
    """One class per image, so that the label tells the image."""
    for number in range(num_images):
        image = np.full((4, 5, 1), number, np.uint8)
        write(path / f"{number:02}" / "image.png", tf.io.encode_png(image))
    return data.image_folder(path)


def write_idx(folder, split, images, labels, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    prefix = {"train": "train", "test": "t10k"}[split]
    for name, array, magic in (
        ("images-idx3-ubyte", images, 0x803),
        ("labels-idx1-ubyte", labels, 0x801),
    ):
        content = np.array([magic, *array.shape], ">u4").tobytes() + array.tobytes()
        path = folder / f"{prefix}-{name}{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(content) if compress else content)


def make_idx_folder(folder, num_images=40):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (num_images, 28, 28), dtype=np.uint8)
        write_idx(folder, split, images, np.arange(num_images, dtype=np.uint8) % 10)
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A prepared TFDS folder: 40 train images in 3 files, the first pixel counts."""
    folder = tmp_path_factory.mktemp("idx")
    images = np.zeros((40, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(40)
    for split in ("train", "test"):
        write_idx(folder, split, images, np.arange(40, dtype=np.uint8) % 10)
    path = tmp_path_factory.mktemp("tfds") / "fashion_mnist_small" / "1.0.0"
    maker.make(folder, path, train_per_class=4, test_per_class=1, train_shards=3)
    return path


@pytest.fixture
def never_in_memory(monkeypatch):
    monkeypatch.setattr(data, "_MEMORY_BYTES", -1)


@pytest.fixture(params=["arrays", "folder", "records", "sharded records"])
def source(request, tmp_path, records, monkeypatch):
    if request.param == "arrays":
        return make_arrays()
    if request.param == "folder":
        return make_folder(tmp_path)
    if request.param == "sharded records":
        monkeypatch.setattr(data, "_MEMORY_BYTES", -1)
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
    return data.ImageData("none", 0, channels, None, None, None)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_crop_equals_the_crop_of_the_whole(odd_jpegs, channels):
    rng = np.random.default_rng(1)
    source = anonymous(channels)
    decode_crop = tf.function(source.decode_crop)
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
            crop = decode_crop(jpeg, tf.constant([top, left, h, w], tf.int32)).numpy()
            np.testing.assert_array_equal(
                crop, whole[top : top + h, left : left + w], strict=True
            )


def test_a_jpeg_crop_decoded_without_a_margin_would_differ(odd_jpegs, monkeypatch):
    source = anonymous(3)
    box = [5, 5, 9, 9]
    whole = source.decode(odd_jpegs[0]).numpy()[5:14, 5:14]
    assert (source.decode_crop(odd_jpegs[0], box).numpy() == whole).all()
    monkeypatch.setattr(data, "_JPEG_MARGIN", 0)
    assert (source.decode_crop(odd_jpegs[0], box).numpy() != whole).any()


def bmp(image):
    """A 24-bit BMP, bottom row first, blue before red."""
    height, width, _ = image.shape
    rows = np.zeros((height, -(-width * 3 // 4) * 4), np.uint8)
    rows[:, : width * 3] = image[::-1, :, ::-1].reshape(height, -1)
    sizes = np.array([54 + rows.size, 0, 54, 40, width, height], "<u4").tobytes()
    planes = np.array([1, 24], "<u2").tobytes()
    rest = np.array([0, rows.size, 2835, 2835, 0, 0], "<u4").tobytes()
    return b"BM" + sizes + planes + rest + rows.tobytes()


GIF_TWO_FRAMES = (
    b"GIF89a\x02\x00\x01\x00\x80\x00\x00"  # 2 x 1, two colours:
    b"\xff\x00\x00\x00\x00\xff"  # red and blue
    b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x44\x0a\x00"  # red, blue
    b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x0c\x0a\x00"  # blue, red
    b"\x3b"
)


def test_png_and_bmp_give_their_pixels_and_the_crop_of_them():
    image = random_image(np.random.default_rng(0))
    source = anonymous(3)
    for encoded in (tf.io.encode_png(image).numpy(), bmp(image)):
        np.testing.assert_array_equal(source.decode(encoded), image)
        assert source.shape(encoded).numpy().tolist() == [9, 7, 3]
        np.testing.assert_array_equal(
            source.decode_crop(encoded, [2, 1, 5, 4]), image[2:7, 1:5]
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
        source.decode_crop(image, [1, 2, 3, 4]), image[1:4, 2:6]
    )
    assert source.shape(image).numpy().tolist() == [9, 7, 5]


def test_static_shapes_are_set_where_they_are_known(tmp_path, records):
    embedded, folder = data.tfds_folder(records), make_folder(tmp_path)
    assert embedded.ordered().element_spec["image"].shape == [28, 28, 1]
    assert folder.ordered().element_spec["image"].shape.as_list() == [None, None, 1]
    crops = folder.stream(seed=0).map(lambda e: folder.decode_crop(e["image"], [0] * 4))
    assert crops.element_spec.shape.as_list() == [None, None, 1]
    assert folder.stream(seed=0).element_spec["image"].shape == []
    assert make_arrays().stream(seed=0).element_spec["image"].shape == [2, 2, 1]


# The embedded dataset and the script that makes it.


@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_the_embedded_dataset_is_balanced(split, per_class):
    source = data.fashion_mnist_small(split)
    assert (source.channels, source.image_size) == (1, (28, 28))
    assert source.class_names == data.FASHION_MNIST_CLASSES
    labels = np.concatenate([e["label"] for e in source.ordered().batch(1000)])
    assert len(labels) == source.num_examples == 10 * per_class
    assert np.bincount(labels).tolist() == [per_class] * 10


@needs_idx
@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_the_embedded_images_are_the_first_of_each_class(split, per_class):
    images, labels = data.read_fashion_mnist_idx(IDX_FOLDER, split)
    seen, rows = np.zeros(10, int), []
    for row, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            rows.append(row)
    embedded = list(data.fashion_mnist_small(split).ordered().batch(2000))
    np.testing.assert_array_equal(
        np.concatenate([batch["image"] for batch in embedded]), images[rows]
    )
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in embedded]), labels[rows]
    )


def test_the_embedded_metadata_name_licence_and_source_but_no_path():
    folder = pathlib.Path(data.__file__).parent / "assets/fashion_mnist_small/1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    assert "Zalando SE" in info["redistributionInfo"]["license"]
    assert "1708.07747" in info["citation"]
    text = json.dumps(info) + (folder / "features.json").read_text()
    assert re.findall(r"(?<![:/\w])/\w+", text) == []
    assert sum(os.path.getsize(file) for file in folder.iterdir()) < 8e6


def test_the_script_makes_the_same_bytes_twice(tmp_path):
    idx = make_idx_folder(tmp_path / "idx")
    for name in ("one", "two"):
        maker.make(idx, tmp_path / name, train_per_class=3, test_per_class=1)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len([file for file in files if "tfrecord" in file]) == 5
    for file in files:
        one, two = (tmp_path / name / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


# TFDS.


def test_a_slice_reads_across_files(records):
    whole = [e["image"].numpy()[0, 0, 0] for e in data.tfds_folder(records).ordered()]
    source = data.tfds_folder(records, "train[10%:75%]")
    assert source.num_examples == 26
    part = [e["image"].numpy()[0, 0, 0] for e in source.ordered()]
    assert part == whole[4:30] == list(range(4, 30))


def test_splits_add_up(records, never_in_memory):
    source = data.tfds_folder(records, "train+test")
    assert source.num_examples == len(list(source.ordered())) == 50


def test_a_prepared_dataset_is_found_by_its_name(records):
    source = data.tfds_dataset(
        "fashion_mnist_small", data_dir=str(records.parent.parent), download=False
    )
    assert source.num_examples == 40
    assert source.class_names == data.FASHION_MNIST_CLASSES
    assert source.name == "fashion_mnist_small/1.0.0 of TFDS, split train"


def test_labels_can_be_left_out(records):
    source = data.tfds_folder(records, label_key=None)
    assert source.class_names is None
    assert set(next(iter(source.ordered()))) == {"image"}


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


def test_a_failing_preparation_tells_the_ways_out(tmp_path):
    message = r"data_dir .* manual_dir .*Manual directory.*Received: imagenet2012$"
    with pytest.raises(ValueError, match=message):
        data.tfds_dataset(
            "imagenet2012", data_dir=str(tmp_path), manual_dir=str(tmp_path / "none")
        )


def test_tfds_folders_name_what_is_wrong(records, tmp_path):
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/none"):
        data.tfds_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"prepared TFDS folder.*dataset_info.json"):
        data.tfds_folder(tmp_path)
    write(tmp_path / "dataset_info.json", b"{")
    with pytest.raises(ValueError, match=r"prepared TFDS folder.*Received: "):
        data.tfds_folder(tmp_path)
    with pytest.raises(ValueError, match=r"\['test', 'train'\].* Received: 'val'"):
        data.tfds_folder(records, "val")
    with pytest.raises(ValueError, match=r"not be empty. Received: 'train\[5:5\]'"):
        data.tfds_folder(records, "train[5:5]")
    with pytest.raises(ValueError, match=r"shuffle_buffer must be positive.*: 0"):
        data.tfds_folder(records, shuffle_buffer=0)


def test_a_missing_record_file_is_named(records, tmp_path):
    shutil.copytree(records, tmp_path, dirs_exist_ok=True)
    next(tmp_path.glob("*train*00001*")).unlink()
    with pytest.raises(ValueError, match=r"must exist.*no file .*00001-of-00003"):
        data.tfds_folder(tmp_path)


def test_records_of_another_format_are_refused(records, tmp_path):
    shutil.copytree(records, tmp_path, dirs_exist_ok=True)
    info = tmp_path / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(ValueError, match=r"stored as tfrecord.*as array_record"):
        data.tfds_folder(tmp_path)


# IDX files.


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_give_their_pixels(tmp_path, compress):
    images = np.arange(2 * 28 * 28).astype(np.uint8).reshape(2, 28, 28)
    write_idx(tmp_path, "test", images, np.array([9, 3], np.uint8), compress)
    source = data.fashion_mnist_idx(tmp_path, "test")
    assert (source.channels, source.image_size) == (1, (28, 28))
    assert source.class_names[9] == "Ankle boot"
    examples = list(source.ordered())
    np.testing.assert_array_equal([e["image"][..., 0] for e in examples], images)
    assert [int(e["label"]) for e in examples] == [9, 3]


@needs_idx
def test_the_whole_of_fashion_mnist_is_read():
    source = data.fashion_mnist_idx(IDX_FOLDER)
    assert source.num_examples == 60_000
    assert int(next(iter(source.ordered()))["label"]) == 9


def test_idx_folders_name_what_is_wrong(tmp_path):
    make_idx_folder(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    content = images.read_bytes()
    with pytest.raises(ValueError, match=r"split .*'train' or 'test'.* 'val'"):
        data.fashion_mnist_idx(tmp_path, "val")
    for wrong in (content[:-1], content + b"0", b"\0\0\x08\x01" + content[4:], b""):
        images.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"complete IDX files.*images-idx3-ubyte"):
            data.fashion_mnist_idx(tmp_path)
    images.unlink()
    with pytest.raises(ValueError, match=r"must hold train-images-idx3-ubyte or .*gz"):
        data.fashion_mnist_idx(tmp_path)
    packed = gzip.compress(content)
    for wrong in (packed[:-20], packed[:40] + b"\xff" * 40 + packed[80:], b"no gzip"):
        pathlib.Path(f"{images}.gz").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"readable files. Received: .*ubyte.gz"):
            data.fashion_mnist_idx(tmp_path)
    write_idx(tmp_path, "train", np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match=r"as many labels as images.*: 2 and 3"):
        data.fashion_mnist_idx(tmp_path)


# Image folders.


def test_sub_folders_are_the_classes_in_sorted_order(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("zebra/1.png", "ant/b/2.PNG", "ant/1.png", "bee/1.png"):
        write(tmp_path / path, png)
    source = data.image_folder(tmp_path)
    assert source.class_names == ("ant", "bee", "zebra")
    assert [int(e["label"]) for e in source.ordered()] == [0, 0, 1, 2]


def test_hidden_files_and_other_files_are_left_out(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("1.png", ".2.png", ".cache/3.png", "notes.txt"):
        write(tmp_path / path, png)
    assert data.image_folder(tmp_path).num_examples == 1


def test_a_flat_folder_has_no_labels_and_sorted_files(tmp_path):
    for number in (10, 9, 2):
        image = np.full((2, 2, 3), number, np.uint8)
        write(tmp_path / f"{number:02}.png", tf.io.encode_png(image))
    source = data.image_folder(tmp_path)
    assert source.class_names is None
    examples = list(source.ordered())
    assert [int(e["image"][0, 0, 0]) for e in examples] == [2, 9, 10]
    assert "label" not in next(iter(source.stream(seed=0)))


def test_one_image_outside_of_sub_folders_means_no_labels(tmp_path):
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8))
    for path in ("ant/1.png", "bee/1.png", "1.png"):
        write(tmp_path / path, png)
    assert data.image_folder(tmp_path).class_names is None


def test_images_of_any_format_and_size_are_read_together(tmp_path):
    image = random_image(np.random.default_rng(0))
    write(tmp_path / "1.bmp", bmp(image))
    write(tmp_path / "2.gif", GIF_TWO_FRAMES)
    write(tmp_path / "3.jpg", tf.io.encode_jpeg(image[:5]))
    write(tmp_path / "4.png", tf.io.encode_png(image[:3]))
    shapes = [tuple(e["image"].shape) for e in data.image_folder(tmp_path).ordered()]
    assert shapes == [(9, 7, 3), (1, 2, 3), (5, 7, 3), (3, 7, 3)]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [((1,), 1), ((2,), 1), ((3,), 3), ((4,), 3), ((1, 3), 3), ((1, 1), 1)],
)
def test_channels_are_those_of_the_first_images(tmp_path, stored, expected):
    rng = np.random.default_rng(0)
    for number, channels in enumerate(stored):
        png = tf.io.encode_png(random_image(rng, channels=channels))
        write(tmp_path / f"{number}.png", png)
    source = data.image_folder(tmp_path)
    assert source.channels == expected
    assert {e["image"].shape[-1] for e in source.ordered()} == {expected}
    assert data.image_folder(tmp_path, channels=1).channels == 1


def test_image_folders_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/none"):
        data.image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must hold images \(.jpg .*Received: "):
        data.image_folder(tmp_path)
    write(tmp_path / "notes.txt", b"text")
    with pytest.raises(ValueError, match=r"existing folder. Received: .*/notes.txt"):
        data.image_folder(tmp_path / "notes.txt")
    for number in range(17):
        write(tmp_path / f"{number:02}.jpg", b"\xff\xd8\xff no image")
    with pytest.raises(ValueError, match=r"readable images only.*Received: .*00.jpg"):
        data.image_folder(tmp_path)
    with pytest.raises(ValueError, match=r"channels must be None, 1 or 3.*: 4"):
        data.image_folder(tmp_path, channels=4)


def test_without_pillow_tiffs_are_left_out_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    write(tmp_path / "1.tif", b"II*\0")
    with pytest.raises(ValueError, match=r"pip install pillow. Received: "):
        data.image_folder(tmp_path)
    write(tmp_path / "2.png", tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)))
    with caplog.at_level("WARNING", logger="absl"):
        assert data.image_folder(tmp_path).num_examples == 1
    assert "1 TIFF images" in caplog.text
    assert "pip install pillow" in caplog.text


@needs_pillow
@pytest.mark.parametrize("suffix", ["tif", "TIFF", "webp"])
def test_tiff_and_webp_give_their_pixels(tmp_path, suffix):
    from PIL import Image

    image = random_image(np.random.default_rng(0))
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"1.{suffix}", **options)
    write(tmp_path / "2.png", tf.io.encode_png(image))
    examples = list(data.image_folder(tmp_path).ordered())
    np.testing.assert_array_equal(examples[0]["image"], image)
    np.testing.assert_array_equal(examples[1]["image"], image)


@needs_pillow
def test_jpegs_decode_as_pillow_decodes_them(odd_jpegs):
    from PIL import Image

    for jpeg in odd_jpegs:
        expected = np.asarray(Image.open(io.BytesIO(jpeg.numpy())))
        np.testing.assert_array_equal(anonymous(3).decode(jpeg), expected)


# Arrays.


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_arrays_have_any_number_of_channels(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels), np.uint8)
    source = data.arrays(images)
    assert (source.channels, source.image_size) == (channels, (4, 6))
    assert source.class_names is None
    np.testing.assert_array_equal([e["image"] for e in source.ordered()], images)


def test_arrays_of_three_dimensions_have_one_channel():
    source = data.arrays(np.zeros((5, 4, 6), np.uint8), [0, 2, 1, 1, 0])
    assert source.channels == 1
    assert source.class_names == ("0", "1", "2")
    assert [int(e["label"]) for e in source.ordered()] == [0, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 3, 1)), None, "images must be uint8. Received: float64"),
        (np.zeros((2, 3), np.uint8), None, r"\[N, H, W, C\].* Received: \(2, 3\)"),
        (np.zeros((0, 3, 3), np.uint8), None, r"Received: \(0, 3, 3\)"),
        (np.zeros((2, 3, 3), np.uint8), [1], r"shape \(2,\).* Received: \(1,\)"),
        (np.zeros((2, 3, 3), np.uint8), [0.5, 1], "integers .* Received: float64"),
        (np.zeros((2, 3, 3), np.uint8), [-1, 1], "integers .* Received: int64 from -1"),
    ],
)
def test_arrays_name_what_is_wrong(images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.arrays(images, labels)


def test_gin_binds_the_constructors():
    for name in ("tfds_dataset", "tfds_folder", "image_folder", "arrays"):
        assert gin.get_configurable(f"byol_keras.data.{name}").__name__ == name
    with gin.unlock_config():
        gin.bind_parameter("fashion_mnist_small.split", "test")
    try:
        assert gin.get_configurable("fashion_mnist_small")().num_examples == 2000
    finally:
        gin.clear_config()
