"""The description of an image's draws agrees with what the layers do."""

import keras
import numpy as np
import pytest

from byol_keras.preview import describe
from byol_keras.views.augmentations import (
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomCrop, RandomResizedCrop

SHAPE = (40, 60, 3)


def uniforms(*numbers):
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    "layer, numbers, expected",
    [
        (RandomHorizontalFlip(rate=0.5), (0.4,), "left to right"),
        (RandomHorizontalFlip(rate=0.5), (0.6,), None),
        (RandomVerticalFlip(rate=0.5), (0.4,), "upside down"),
        (RandomVerticalFlip(rate=0.5), (0.6,), None),
        (GaussianBlur(sigma=(0.5, 1.5)), (0.25,), "blur 0.75"),
        (Grayscale(), (), "grey"),
        (Solarize(threshold=0.3), (), "solarize 0.30"),
        (RandomApply(Solarize(), rate=0.2), (0.1,), "solarize 0.50"),
        (RandomApply(Solarize(), rate=0.2), (0.2,), None),
        (RandomCrop(size=(8, 9)), (0.5, 0.5), "crop 8 x 9"),
        # A square of as many pixels, 49 x 49, is cut to 40 x 49; and 24 x 24 of 24.5.
        (RandomResizedCrop(size=8, area=(1.0, 1.0)), (0, 0.5, 0, 0), "crop 82 %"),
        (RandomResizedCrop(size=8, area=(0.25, 0.25)), (0, 0.5, 0, 0), "crop 24 %"),
        (keras.layers.RandomFlip(), (), "RandomFlip"),
    ],
)
def test_description_of_draws(layer, numbers, expected):
    assert describe.describe(layer, uniforms(*numbers), SHAPE) == expected


def test_jitter_is_described_in_the_order_of_its_operations():
    layer = ColorJitter(brightness=0.4, contrast=0.2, saturation=0.0, hue=0.1)
    last_order = 23.5 / 24  # the reverse
    words = describe.describe(layer, uniforms(0.5, 1.0, 0.5, 0.25, last_order), SHAPE)
    assert words == "hue -0.05, contrast +0.20, brightness +0.00"


def test_jitter_of_one_channel_has_no_colour():
    words = describe.describe(
        ColorJitter(), uniforms(0.5, 0.5, 0.5, 0.5, 0.0), (40, 60, 1)
    )
    assert words == "brightness +0.00, contrast +0.00"


@pytest.mark.parametrize("semantics", ["deepmind", "torchvision"])
def test_described_jitter_is_the_applied_one(semantics):
    layer = ColorJitter(0.4, 0.4, 0.2, 0.1, semantics=semantics)
    rng = np.random.default_rng(0)
    image = rng.uniform(0.3, 0.6, (1, 8, 8, 3)).astype(np.float32)
    own = rng.random(layer.draws, np.float32)
    step_by_step = image
    for name, shift in layer.shifts(own, channels=3):
        rest = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
        one = ColorJitter(**{**rest, name: abs(shift)}, semantics=semantics)
        end = np.float32(1 - 1e-7) if shift > 0 else 0.0
        step_by_step = one.augment(step_by_step, np.full((1, 5), end, np.float32))
    np.testing.assert_allclose(step_by_step, layer.augment(image, own[None]), atol=2e-6)


def test_each_layer_of_a_view_is_described_by_its_own_draws():
    layers = [
        RandomHorizontalFlip(rate=0.5),
        keras.layers.RandomFlip(),
        RandomVerticalFlip(rate=0.5),
        GaussianBlur(sigma=(1.0, 2.0)),
    ]
    words = describe.describe_view(layers, uniforms(0.9, 0.1, 0.5), SHAPE)
    assert words == ["RandomFlip", "upside down", "blur 1.50"]


def test_forced_draws_apply_the_layer_to_every_image():
    layer = RandomApply(GaussianBlur(), rate=0.1)
    own = np.full((3, 2), 0.7, np.float32)
    forced = describe.force_applied(layer, own)
    assert [describe.is_applied(layer, row) for row in forced] == [True] * 3
    assert (forced[:, 1] == own[:, 1]).all()
    assert (own == np.float32(0.7)).all()
    assert (describe.force_applied(GaussianBlur(), own[:, :1]) == own[:, :1]).all()
