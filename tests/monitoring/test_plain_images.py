import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.monitoring.plain_images import plain_examples, take_plain_images

from support.datasets import write


def flat_arrays(side=8):
    """Ten images; all pixels of image n are 10 n, and its label is n % 2."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * 10
    return data.arrays(np.tile(images, (1, side, side, 3)), np.arange(10) % 2)


def test_images_are_those_of_the_data_in_the_order_of_the_run():
    source = flat_arrays()
    plain = take_plain_images(source, (8, 8, 3), count=6, seed=3)
    stream = source.stream(3).take(6)
    expected = [int(element["image"][0, 0, 0]) for element in stream]
    assert plain.images.shape == (6, 8, 8, 3)
    np.testing.assert_allclose(plain.images[:, 0, 0, 0], np.array(expected) / 255.0)
    assert plain.images.dtype == np.float32


def test_images_have_their_labels_and_each_is_there_once():
    found = [*plain_examples(flat_arrays(), (8, 8, 3), count=99, seed=0)]
    numbers = [round(float(x["image"][0, 0, 0]) * 25.5) for x in found]
    assert sorted(numbers) == list(range(10))
    assert [int(x["label"]) for x in found] == [n % 2 for n in numbers]
    (unlabelled,) = plain_examples(
        data.arrays(np.zeros((1, 8, 8, 1), np.uint8)), (8, 8, 1), count=1, seed=0
    )
    assert int(unlabelled["label"]) == -1


def test_images_that_are_no_files_have_no_file_facts():
    assert take_plain_images(flat_arrays(), (8, 8, 3), count=4, seed=0).files is None


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        pixels = np.full((8 + number, 10, 3), 10 * number, np.uint8)
        write(tmp_path / f"{number}.png", tf.io.encode_png(pixels))
    return tmp_path


def test_files_have_the_height_width_and_bytes_before_resizing(folder):
    plain = take_plain_images(data.image_folder(folder), (8, 8, 3), count=5, seed=0)
    assert plain.images.shape == (5, 8, 8, 3)
    sizes = {8 + n: (folder / f"{n}.png").stat().st_size for n in range(5)}
    assert sorted(plain.files[:, 0]) == [*sizes]
    for height, width, size in plain.files:
        assert (width, size) == (10, sizes[height])


def test_unreadable_images_are_left_out(folder):
    source = data.image_folder(folder, max_bad_share=0.5)
    write(folder / "2.png", b"no image")
    plain = take_plain_images(source, (8, 8, 3), count=5, seed=0)
    numbers = np.round(plain.images[:, 0, 0, 0] * 25.5)
    assert sorted(numbers) == [0, 1, 3, 4]
    assert len(plain.files) == 4
