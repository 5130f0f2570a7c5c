"""Measured on pixels, no-ops, wrong shares and shared draws are found."""

import keras
import numpy as np
import pytest

from byol_keras.preview.effects import measure_effects, tolerance
from byol_keras.views.augmentations import RandomApply, RandomHorizontalFlip
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomResizedCrop


def images(count=200, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 12, 12, channels), np.float32)


def effects(*layers, of=None, seed=1):
    of = images() if of is None else of
    view = AugmentedView(layers)
    uniforms = np.random.default_rng(seed).random((len(of), view.draws), np.float32)
    return measure_effects("view1", view, of, uniforms)


def test_tolerance_is_the_binomial_interval():
    # Of 100 draws at 0.5, fewer than 31 have probability 3.9e-5, and fewer than 32
    # 9.2e-5.
    assert tolerance(100, 0.5) == (0.31, 0.69)
    assert tolerance(10, 1.0) == (1.0, 1.0)
    assert tolerance(10, 0.0) == (0.0, 0.0)
    assert tolerance(0, 0.5) == (0.0, 0.0)


def test_share_of_changed_images_is_that_of_the_draws():
    layers = RandomHorizontalFlip(rate=0.5), RandomApply(Grayscale(), rate=0.2)
    view = AugmentedView(layers)
    uniforms = np.random.default_rng(1).random((200, 2), np.float32)
    _, (flip, grey) = measure_effects("view1", view, images(), uniforms)
    assert flip.changed == (uniforms[:, 0] < 0.5).sum()
    assert grey.changed == (uniforms[:, 1] < 0.2).sum()
    assert (flip.changeable, flip.rate, grey.rate) == (200, 0.5, 0.2)
    assert flip.finding is grey.finding is None


def test_measured_views_equal_the_views_of_the_layers():
    view = AugmentedView([RandomResizedCrop(size=8), GaussianBlur(), Solarize()])
    uniforms = np.random.default_rng(1).random((5, view.draws), np.float32)
    made, _ = measure_effects("view1", view, images(5), uniforms)
    expected = view.augment(images(5), uniforms)
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_crops_accept_images_of_several_sizes():
    of = [images(1, seed=n)[0][: 6 + n] for n in range(5)]
    made, (crop,) = effects(RandomResizedCrop(size=8), of=of)
    assert made.shape == (5, 8, 8, 3)
    assert (crop.changed, crop.finding) == (5, None)


def test_images_that_an_operation_cannot_change_do_not_count():
    of = images()
    of[:50] = of[:50, ..., :1]  # grey already
    _, (grey,) = effects(RandomApply(Grayscale(), rate=0.5), of=of)
    assert grey.changeable == 150
    assert grey.finding is None


@pytest.mark.parametrize(
    "layer, channels",
    [
        (RandomApply(Grayscale(), rate=0.5), 1),
        (ColorJitter(0.0, 0.0, 0.2, 0.1), 1),
        (RandomHorizontalFlip(rate=0.0), 3),
        (RandomResizedCrop(size=12, area=(1.0, 1.0), aspect_ratio=(1.0, 1.0)), 3),
        (Solarize(threshold=1.0), 3),
    ],
)
def test_operation_without_effect_is_found(layer, channels):
    _, (effect,) = effects(layer, of=images(channels=channels))
    assert effect.finding == "changes no image"
    assert effect.share == 0.0


def test_wrong_share_is_found():
    class Half(RandomHorizontalFlip):
        def augment(self, images, uniforms):
            return super().augment(images, uniforms**0.25)

    _, (effect,) = effects(Half(rate=0.5))
    assert effect.finding.startswith("changes 0.")


class OnceForAll(keras.layers.Layer):
    """Draws one number for the whole batch."""

    def call(self, images, training=None):
        return np.clip(images + np.random.uniform(0.1, 0.3), 0.0, 1.0)


def test_one_draw_for_all_images_is_found():
    _, (effect,) = effects(OnceForAll())
    assert effect.finding == "draws once for all images of a batch"


def test_shared_draws_of_a_rate_are_found():
    uniforms = np.full((200, 1), 0.2, np.float32)
    view = AugmentedView([RandomHorizontalFlip(rate=0.5)])
    _, (flip,) = measure_effects("view1", view, images(), uniforms)
    assert "changes 1.000 of the images that it can change" in flip.finding


def test_same_draws_by_chance_are_no_finding():
    uniforms = np.full((200, 1), 0.2, np.float32)
    view = AugmentedView([RandomApply(Solarize(), rate=1 - 1e-3)])
    _, (solarize,) = measure_effects("view1", view, images(), uniforms)
    assert solarize.finding is None


def test_stock_layer_without_random_draws_is_no_finding():
    _, (effect,) = effects(keras.layers.Lambda(lambda x: 1.0 - x))
    assert effect.finding is None
