"""Measurements of a run's views, and the flaws that they reveal."""

import numpy as np
import pytest

from byol_keras import data
from byol_keras.gin_names import AUGMENTATIONS
from byol_keras.preview.inspection import find_flaws, inspect_views
from byol_keras.views import TwoViews
from byol_keras.views.augmentations import RandomApply, RandomHorizontalFlip
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomResizedCrop

LAYERS = (
    RandomResizedCrop(size=16, semantics="torchvision"),
    RandomHorizontalFlip(),
    RandomApply(ColorJitter(), rate=0.8),
    RandomApply(Grayscale(), rate=0.2),
    RandomApply(GaussianBlur(sigma=(0.1, 1.0)), rate=0.5),
)
SECOND_LAYERS = (*LAYERS, RandomApply(Solarize(), rate=0.2))


def colour(count=80):
    rng = np.random.default_rng(0)
    return data.arrays(rng.integers(0, 256, (count, 24, 20, 3), dtype=np.uint8))


def inspected(
    view1=LAYERS, view2=SECOND_LAYERS, images_of=None, images=64, place="host"
):
    views = TwoViews([*view1], [*view2], place=place)
    return inspect_views(images_of or colour(), views, seed=5, images=images, rows=3)


@pytest.mark.parametrize("place", ["host", "device"])
def test_working_operations_have_no_finding(place):
    found = inspected(place=place)
    assert found.data_name == "arrays of shape (80, 24, 20, 3)"
    assert found.findings == []
    assert len(found.effects) == 11
    assert found.numbers["agreement"] == {"view1": 1.0, "view2": 1.0}
    numbers = found.numbers["independence"]
    assert numbers["images_with_draws_of_their_own"] == numbers["images"] == 64
    assert numbers["images_with_equal_views"] == 0


def test_samples_are_the_views_that_the_run_trains_on():
    found = inspected()
    views = TwoViews([*LAYERS], [*SECOND_LAYERS])
    view1, view2 = next(iter(views.dataset(colour(), 64, seed=5)))
    assert len(found.samples) == 3
    for place, sample in enumerate(found.samples):
        np.testing.assert_array_equal(sample.views["view1"], view1[place])
        np.testing.assert_array_equal(sample.views["view2"], view2[place])
        assert sample.captions["view1"][0].startswith("crop ")


def test_box_on_the_original_is_the_crop_of_the_view():
    ramp = np.zeros((40, 40, 40, 1), np.uint8)
    ramp[:] = np.arange(40)[:, None, None] * 5
    layers = [RandomResizedCrop(size=20, area=(0.1, 0.3))]
    found = inspected(layers, layers, images_of=data.arrays(ramp), images=4)
    for sample in found.samples:
        top, _, height, _ = sample.boxes["view1"]
        rows = 255 * sample.views["view1"][:, 0, 0] / 5
        assert rows.mean() == pytest.approx(40 * (top + height / 2) - 0.5, abs=0.2)


def test_operation_that_changes_no_image_is_a_finding():
    grey = data.arrays(
        np.random.default_rng(0).integers(0, 256, (80, 20, 20), np.uint8)
    )
    found = inspected(images_of=grey)
    assert found.findings == [
        "view1: Grayscale changes no image",
        "view2: Grayscale changes no image",
    ]


def test_equal_views_are_a_finding():
    layers = [RandomResizedCrop(size=8, area=(1.0, 1.0), aspect_ratio=(1.0, 1.0))]
    rng = np.random.default_rng(0)
    square = data.arrays(rng.integers(0, 256, (64, 20, 20), np.uint8))
    found = inspected(layers, layers, images_of=square)
    assert "the two views of most images are equal" in found.findings


def test_layers_of_keras_cv_are_measured_too():
    import keras_cv

    assert "RandomHue" in AUGMENTATIONS
    layers = [*LAYERS, keras_cv.layers.RandomHue(0.5, value_range=(0, 1))]
    found = inspected(layers, LAYERS)
    assert found.numbers["agreement"] is None
    (hue,) = [e for e in found.effects if e.name == "RandomHue"]
    assert 40 < hue.changed <= hue.changeable <= 64
    assert (hue.least, hue.most, hue.finding) == (0.0, 1.0, None)


def test_views_of_stock_layers_alone_have_no_finding():
    import keras_cv

    layers = [keras_cv.layers.RandomHue(0.5, value_range=(0, 1))]
    found = inspected(layers, layers)
    assert found.findings == []


def test_values_out_of_range_shared_draws_and_disagreement_are_findings():
    numbers = {
        "value_range": {"view1": {"finite": True, "least": -0.1, "most": 1.0}},
        "independence": {
            "images": 9,
            "images_with_draws_of_their_own": 8,
            "images_with_equal_views": 0,
        },
        "agreement": {"view1": 0.9},
    }
    assert find_flaws(numbers) == [
        "view1: values must be finite and in 0..1. Received: -0.1 to 1.0",
        "images of one batch share draws",
        "view1: the input pipeline differs from the layers",
    ]


def test_large_originals_are_shrunk_to_256_pixels():
    large = data.arrays(np.zeros((4, 600, 300, 3), np.uint8))
    found = inspected(images_of=large, images=4)
    assert found.samples[0].image.shape == (256, 128, 3)
