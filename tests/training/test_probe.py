import numpy as np
import pytest

from byol_keras import data
from byol_keras.monitoring import plain_images
from byol_keras.training import probe
from byol_keras.training.probe import Probe

from support.run_parts import build


def random_arrays(count=40):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return data.arrays(images)


@pytest.fixture
def made():
    run = build({"batch_size": 16}, dataset_fn=random_arrays)
    return Probe(run, seed=0, pass_length=40)


def test_views_are_those_of_the_first_step(made):
    run = made.run
    expected = next(iter(run.views.dataset(run.data, 16, seed=0, pass_length=40)))
    for view, wanted in zip(made.views(), expected, strict=True):
        np.testing.assert_array_equal(view, wanted)


def test_views_of_a_large_batch_are_limited(made, monkeypatch):
    monkeypatch.setattr(probe, "MOST_PROBE_IMAGES", 5)
    assert made.views()[0].shape == (5, 8, 8, 3)


def test_shortcuts_are_of_images_without_augmentation(made):
    made.views()
    reader = made.shortcuts()
    plain = plain_images.take_plain_images(made.run.data, (8, 8, 3), 40, seed=0)
    np.testing.assert_array_equal(reader.images, plain.images)
    assert "shortcut/file" not in reader.read(np.eye(40))


def test_survival_is_of_the_views_of_other_batches(made, monkeypatch):
    pairs = []

    def noted(images, views, files):
        pairs.extend(views)

    monkeypatch.setattr(probe, "ShortcutReader", noted)
    first = made.views()
    made.shortcuts()
    run = made.run
    batches = run.views.dataset(run.data, 16, seed=0, pass_length=40).take(3)
    for place, (view, *later) in enumerate(zip(*batches, strict=True)):
        np.testing.assert_array_equal(first[place], view)
        np.testing.assert_array_equal(pairs[place], np.concatenate(later))


def test_data_of_few_images_have_no_shortcuts():
    run = build({"batch_size": 4}, dataset_fn=lambda: random_arrays(31))
    few = Probe(run, seed=0, pass_length=31)
    few.views()
    assert few.shortcuts() is None
