"""Unreadable images are replaced by a rule in training, and left out of evaluation."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import readable_files
from byol_keras.data.image_files import file_rows
from byol_keras.data.unreadable import TooManyBadImages, listed_in

from support import images
from support.datasets import numbered_images, small_views, write


def numbers_of(source, dataset):
    """Number and label of each image."""
    return [(int(source.decode(x["image"])[0, 0, 0]), int(x["label"])) for x in dataset]


def one_pass(source):
    """A pass of training, without shuffling."""
    return source.stream(seed=0, shuffle=False).take(source.num_examples)


@pytest.mark.parametrize("lists", [False, True])
def test_pipe_or_device_among_the_images_is_not_read(lists, tmp_path):
    folder = tmp_path / ("with [brackets]" if lists else "plain")
    numbered_images(folder, 4)
    os.mkfifo(folder / "002" / "pipe.png")
    (folder / "002" / "device.png").symlink_to("/dev/zero")
    source = data.image_folder(folder, max_bad_share=0.9)
    assert [n for n, _ in numbers_of(source, source.ordered())] == [0, 1, 2, 3]
    reasons = {file.reason for file in source.unreadable()}
    assert reasons == {"cannot be opened: not a regular file"}


def test_bad_image_is_replaced_by_the_next_that_is_readable(tmp_path):
    source = numbered_images(tmp_path, 6, broken=(1, 2, 5))
    expected = [(0, 0), (3, 3), (3, 3), (3, 3), (4, 4), (0, 0)]
    assert numbers_of(source, one_pass(source)) == expected


def test_order_with_bad_images_is_that_without_them_but_for_replacements(tmp_path):
    whole = numbered_images(tmp_path / "whole", 12)
    source = numbered_images(tmp_path / "broken", 12, broken=(0, 7, 11))
    replaced = {11: 1, 0: 1, 7: 8}
    for start in (0, 17):
        expected = numbers_of(whole, whole.stream(seed=3, start=start).take(30))
        expected = [(replaced.get(n, n),) * 2 for n, _ in expected]
        # A new source has not read the bad images before the start.
        fresh = data.image_folder(tmp_path / "broken", channels=1, max_bad_share=0.9)
        for each in (source, fresh):
            read = numbers_of(each, each.stream(seed=3, start=start).take(30))
            assert read == expected


def test_images_of_a_subset_replace_only_each_other(tmp_path):
    source = numbered_images(tmp_path, 8, broken=(2, 3))
    subset = source.subset(np.array([1, 2, 6]), "subset")
    assert numbers_of(subset, one_pass(subset)) == [(1, 1), (6, 6), (6, 6)]


def test_a_readable_file_is_examined_once(tmp_path, monkeypatch):
    source = numbered_images(tmp_path, 5, broken=(2,))
    seen = []
    load_image = readable_files.load_image

    def counted(path, channels):
        seen.append(path)
        return load_image(path, channels)

    monkeypatch.setattr(readable_files, "load_image", counted)
    for _ in range(3):
        list(one_pass(source))
        list(source.ordered())
        source.labels()
    assert len(seen) <= 6  # two threads may examine 3 at once, for itself and for 2
    assert len(set(seen)) == 5


def broken_later(folder):
    """20 images, of which three are broken when they are read."""
    numbered_images(folder, 20)
    source = data.image_folder(folder, channels=1, max_bad_share=0.1)
    for number in (16, 18, 19):
        (folder / f"{number:03}" / f"{number:03}.png").write_bytes(b"")
    return source


def test_too_many_bad_images_end_reading_with_one_line(tmp_path):
    source = broken_later(tmp_path)
    with pytest.raises(TooManyBadImages) as stop, listed_in(None):
        list(source.ordered())
    message = str(stop.value)
    assert "\n" not in message
    assert message.startswith("images must be readable, all but a share of 0.1 ")
    assert "Received: 3 unreadable so far, of 20 in all, such as " in message


def test_files_without_a_readable_image_end_reading(tmp_path):
    write(tmp_path / "1.png", b"")
    source = file_rows([str(tmp_path / "1.png")] * 3, None, 1, max_bad_share=1.0)
    with pytest.raises(TooManyBadImages, match=r"1 unreadable so far"), listed_in(None):
        list(source.ordered())


def test_bad_images_are_replaced_under_a_strategy_too(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        source = numbered_images(tmp_path, 6, broken=(1, 2))
    stream = source.stream(seed=0, shuffle=False)
    stream = stream.map(lambda x: tf.cast(source.decode(x["image"])[0, 0, 0], tf.int32))
    (batch,) = strategy.experimental_distribute_dataset(stream.batch(6).take(1))
    values = np.concatenate([part.numpy() for part in batch.values])
    assert values.tolist() == [0, 3, 3, 3, 4, 5]


def test_a_replacement_has_its_own_label(tmp_path):
    source = numbered_images(tmp_path, 4, broken=(0,))
    assert [label for _, label in numbers_of(source, one_pass(source))] == [1, 1, 2, 3]


def test_evaluation_leaves_out_unreadable_images_and_their_labels(tmp_path):
    source = numbered_images(tmp_path, 6, broken=(1, 2, 5))
    expected = [(0, 0), (3, 3), (4, 4)]
    assert numbers_of(source, source.ordered()) == expected
    assert source.labels().tolist() == [0, 3, 4]
    assert source.stored_labels().tolist() == [0, 1, 2, 3, 4, 5]
    only = source.readable()
    assert (only.num_examples, only.name) == (3, source.name)
    assert numbers_of(only, one_pass(only)) == expected
    assert only.labels().tolist() == only.stored_labels().tolist() == [0, 3, 4]
    assert only.readable() is only


def test_the_row_of_a_broken_file_is_left_out_of_its_class(tmp_path):
    for name, value in (("a", 0), ("b", 255)):
        for number in range(20):
            image = np.full((8, 8, 3), value, np.uint8)
            write(tmp_path / name / f"{number:02}.png", tf.io.encode_png(image))
    write(tmp_path / "a" / "19.png", b"broken")
    source = data.image_folder(tmp_path, channels=3)
    rows = [(int(x["label"]), int(x["image"][0, 0, 0])) for x in source.ordered()]
    assert rows == [(0, 0)] * 19 + [(1, 255)] * 20
    assert np.bincount(source.labels()).tolist() == [19, 20]


def test_too_many_bad_images_end_the_examination(tmp_path):
    source = broken_later(tmp_path)
    with pytest.raises(TooManyBadImages, match="3 unreadable so far, of 20 in all"):
        source.readable()
    source = file_rows([str(tmp_path / "016/016.png")] * 3, None, 1, max_bad_share=1.0)
    with pytest.raises(TooManyBadImages, match="1 unreadable so far, of 3 in all"):
        source.readable_places()


@pytest.mark.parametrize("folder", ["plain", "with [brackets]*"])
@pytest.mark.parametrize("change", ["truncated", "zeros", "deleted"])
def test_a_file_that_changes_is_unreadable_from_then_on(change, folder, tmp_path):
    source = numbered_images(tmp_path / folder, 6)
    listing = tmp_path / "bad_images.txt"
    whole = [(number, number) for number in range(6)]
    path = tmp_path / folder / "002" / "002.png"
    with listed_in(listing):
        assert numbers_of(source, one_pass(source)) == whole
        contents = path.read_bytes()
        path.unlink()
        if change == "truncated":
            path.write_bytes(contents[:-20])
        elif change == "zeros":
            path.write_bytes(contents[:40] + bytes(len(contents) - 40))
        replaced = [whole[3] if number == 2 else whole[number] for number in range(6)]
        assert numbers_of(source, one_pass(source)) == replaced
        path.write_bytes(contents)
        assert numbers_of(source, one_pass(source)) == replaced
        left = [pair for pair in whole if pair != (2, 2)]
        assert numbers_of(source, source.ordered()) == left
        assert source.labels().tolist() == [0, 1, 3, 4, 5]
    (line,) = listing.read_text().splitlines()
    assert line.startswith(f"{path}\t")


def test_a_readable_file_may_be_replaced_by_another(tmp_path):
    source = numbered_images(tmp_path, 4)
    list(one_pass(source))
    image = tf.io.encode_png(np.full((9, 9, 1), 77, np.uint8))
    write(tmp_path / "002" / "002.png", image)
    expected = [(0, 0), (1, 1), (77, 2), (3, 3)]
    for _ in range(2):
        assert numbers_of(source, one_pass(source)) == expected
    assert source.unreadable() == []


def test_a_replacement_that_is_deleted_is_replaced_too(tmp_path):
    source = numbered_images(tmp_path, 4, broken=(1,))
    assert [n for n, _ in numbers_of(source, one_pass(source))] == [0, 2, 2, 3]
    (tmp_path / "002" / "002.png").unlink()
    assert [n for n, _ in numbers_of(source, one_pass(source))] == [0, 3, 3, 3]


def test_a_link_to_nothing_is_one_unreadable_image(tmp_path):
    numbered_images(tmp_path, 6)
    (tmp_path / "003" / "003.png").unlink()
    (tmp_path / "003" / "003.png").symlink_to(tmp_path / "nothing")
    source = data.image_folder(tmp_path, channels=1, max_bad_share=0.9)
    digest = source.digest()
    numbers = [0, 1, 2, 4, 4, 5]
    assert [n for n, _ in numbers_of(source, one_pass(source))] == numbers
    assert source.labels().tolist() == [0, 1, 2, 4, 5]
    (bad,) = source.unreadable()
    assert bad.reason == "cannot be opened: No such file or directory"
    write(tmp_path / "nothing", tf.io.encode_png(np.zeros((2, 2, 1), np.uint8)))
    assert source.digest() != digest


def test_views_are_made_while_files_of_a_folder_are_deleted(tmp_path):
    source = numbered_images(tmp_path, 8)
    batches = iter(small_views().dataset(source, 4, seed=0))
    for _ in range(4):
        next(batches)
    for number in (1, 2, 6):
        (tmp_path / f"{number:03}" / f"{number:03}.png").unlink()
    last = [next(batches)[0].numpy() for _ in range(40)][-4:]
    shown = np.unique(np.round(np.stack(last)[..., 0] * 255)).astype(int)
    assert shown.tolist() == [0, 3, 4, 5, 7]
    assert [file.place for file in source.unreadable()] == [1, 2, 6]


LARGE = """
import json, pathlib, resource, sys
import byol_keras as bk
import tensorflow as tf
from byol_keras import data
layers = [bk.RandomResizedCrop(size=32), bk.RandomHorizontalFlip()]
source = data.image_folder(sys.argv[1])
views = bk.TwoViews(layers, layers).dataset(source, 4, seed=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for view1, view2 in views.take(2):
    pass
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shapes = [source.shape(tf.io.read_file(sys.argv[1] + "/" + n)).numpy().tolist()
          for n in source.names]
print(json.dumps({"mb": (after - before) / 1024, "shapes": shapes}))
"""


@pytest.mark.slow
def test_images_of_100_megapixels_take_less_than_3_gb(tmp_path):
    from PIL import Image

    image = Image.fromarray(images.gradient((10_000, 10_000)))
    image.save(tmp_path / "1.jpg")
    image.save(tmp_path / "2.png", compress_level=1)
    command = [sys.executable, "-c", LARGE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shapes"] == [[2500, 2500, 3]] * 2
    assert found["mb"] < 3000
