"""Unreadable images are replaced by a rule, counted and listed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data import unreadable
from byol_keras.data.image_files import file_rows
from byol_keras.data.unreadable import TooManyBadImages, listed_in

from support import images
from support.datasets import write


def numbered(folder, count, broken=(), channels=1):
    """Images whose pixels are their number, one class each; some of them broken."""
    for number in range(count):
        image = np.full((4, 5, channels), number, np.uint8)
        png = tf.io.encode_png(image).numpy()
        name = f"{number:03}"
        write(folder / name / f"{name}.png", b"" if number in broken else png)
    return data.image_folder(folder, channels=channels, max_bad_share=0.9)


def numbers_of(source, dataset):
    return [(int(source.decode(x["image"])[0, 0, 0]), int(x["label"])) for x in dataset]


def test_file_that_cannot_be_opened_has_a_reason(tmp_path):
    flaw = unreadable.flaw_of_file(str(tmp_path))
    assert flaw == "cannot be opened: Is a directory"


def test_bad_image_is_replaced_by_the_next_that_is_readable(tmp_path):
    source = numbered(tmp_path, 6, broken=(1, 2, 5))
    expected = [(0, 0), (3, 3), (3, 3), (3, 3), (4, 4), (0, 0)]
    assert numbers_of(source, source.ordered()) == expected


def test_order_with_bad_images_is_that_without_them_but_for_replacements(tmp_path):
    whole = numbered(tmp_path / "whole", 12)
    source = numbered(tmp_path / "broken", 12, broken=(0, 7, 11))
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
    source = numbered(tmp_path, 8, broken=(2, 3))
    subset = source.subset(np.array([1, 2, 6]), "subset")
    assert numbers_of(subset, subset.ordered()) == [(1, 1), (6, 6), (6, 6)]


def test_a_readable_file_is_examined_once(tmp_path, monkeypatch):
    source = numbered(tmp_path, 5, broken=(2,))
    seen = []
    flaw_of_file = unreadable.flaw_of_file

    def counted(path, channels):
        seen.append(path)
        return flaw_of_file(path, channels)

    monkeypatch.setattr(unreadable, "flaw_of_file", counted)
    for _ in range(3):
        list(source.ordered())
    assert len(seen) <= 6  # two threads may examine 3 at once, for itself and for 2
    assert len(set(seen)) == 5


def test_bad_images_are_listed_once_in_a_run_and_its_resumption(tmp_path):
    listing = tmp_path / "bad_images.txt"
    for _ in range(2):  # a run and its resumption
        source = numbered(tmp_path / "images", 6, broken=(1, 4))
        with listed_in(listing):
            list(source.ordered())
    folder = tmp_path / "images"
    assert sorted(listing.read_text().splitlines()) == [
        f"{folder}/001/001.png\tempty file",
        f"{folder}/004/004.png\tempty file",
    ]
    assert source.unreadable() == [
        (1, str(folder / "001/001.png"), "empty file"),
        (4, str(folder / "004/004.png"), "empty file"),
    ]


def test_first_bad_image_is_a_warning_that_names_the_list(tmp_path, caplog):
    source = numbered(tmp_path, 6, broken=(1, 4))
    caplog.clear()
    with (
        caplog.at_level("WARNING", logger="byol_keras"),
        listed_in(tmp_path / "bad_images.txt"),
    ):
        list(source.ordered())
    warning, summary = caplog.messages
    assert "are replaced by the next ones, first" in warning
    assert warning.endswith(f"(empty file); see {tmp_path}/bad_images.txt")
    assert summary == f"2 images could not be read; see {tmp_path}/bad_images.txt"


def test_too_many_bad_images_end_reading_with_one_line(tmp_path):
    numbered(tmp_path, 20, broken=(16, 18, 19))  # beyond the sample of the first 16
    source = data.image_folder(tmp_path, channels=1, max_bad_share=0.1)
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


def test_other_errors_of_tensorflow_are_not_replaced():
    with pytest.raises(tf.errors.InvalidArgumentError), listed_in(None):
        tf.io.decode_png(b"no image")


@pytest.mark.parametrize("share", [-0.1, 1.5, "all"])
def test_share_of_bad_images_is_in_0_to_1(share, tmp_path):
    write(tmp_path / "1.png", tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"max_bad_share must be a number in 0..1"):
        data.image_folder(tmp_path, max_bad_share=share)


def test_bad_images_are_replaced_under_a_strategy_too(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        source = numbered(tmp_path, 6, broken=(1, 2))
    stream = source.stream(seed=0, shuffle=False)
    stream = stream.map(lambda x: tf.cast(source.decode(x["image"])[0, 0, 0], tf.int32))
    (batch,) = strategy.experimental_distribute_dataset(stream.batch(6).take(1))
    values = np.concatenate([part.numpy() for part in batch.values])
    assert values.tolist() == [0, 3, 3, 3, 4, 5]


def test_a_replacement_has_its_own_label(tmp_path):
    source = numbered(tmp_path, 4, broken=(0,))
    assert [label for _, label in numbers_of(source, source.ordered())] == [1, 1, 2, 3]
    assert source.labels().tolist() == [0, 1, 2, 3]


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
