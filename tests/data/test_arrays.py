"""IDX files and arrays give their pixels, and name what is wrong with them."""

import gzip
import pathlib

import numpy as np
import pytest

from byol_keras import data

from support.datasets import IDX_FOLDER, make_idx_folder, needs_idx, write_idx


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
        (np.zeros((2, 3, 32, 32), np.uint8), None, r"channels last.* \(2, 3, 32, 32\)"),
        (np.zeros((2, 3, 3), np.uint8), [1], r"shape \(2,\).* Received: \(1,\)"),
        (np.zeros((2, 3, 3), np.uint8), [0.5, 1], "integers .* Received: float64"),
        (np.zeros((2, 3, 3), np.uint8), [-1, 1], "integers .* Received: -1"),
        (np.zeros((2, 3, 3), np.uint8), ["a", "b"], "^labels must be .* <U1"),
        (np.zeros((2, 3, 3), np.uint8), [[1], [1, 2]], "^labels must be an array"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], None, "^images must be an array.* list"),
        (np.zeros((8, 9, 3), np.uint8), None, r"\(8, 9, 3\), probably one image"),
        (np.zeros((8, 9, 3, 7), np.uint8), None, r"7\), probably \[H, W, C, N\]"),
        (np.zeros((2, 2, 64, 80), np.uint8), None, "channels last"),
    ],
)
def test_arrays_name_what_is_wrong(images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.arrays(images, labels)


def test_arrays_are_logged_with_their_classes(caplog):
    with caplog.at_level("INFO", logger="byol_keras"):
        data.arrays(np.zeros((3, 7, 5), np.uint8), [0, 1, 1])
    assert caplog.messages == [
        "3 images: arrays of shape (3, 7, 5); 2 classes: 2 1, 1 0"
    ]
