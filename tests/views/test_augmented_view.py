"""A view is the same by compiled loops, by the reference, and in the pipeline."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.views import AugmentedView, TwoViews
from byol_keras.views.augmentations import (
    ImageAugmentation,
    RandomApply,
    RandomHorizontalFlip,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomCrop, RandomResizedCrop
from byol_keras.views.pipeline import uniforms_of

from support.datasets import make_arrays, make_folder
from support.images import both_semantics, noise, varied

# Far below 1/255, the difference of adjacent bytes.
TOLERANCE = 3e-4


def layers_of_byol(size, semantics="deepmind"):
    return [
        RandomResizedCrop(size, semantics=semantics),
        RandomHorizontalFlip(),
        RandomApply(ColorJitter(semantics=semantics), 0.8),
        RandomApply(Grayscale(), 0.2),
        GaussianBlur(semantics=semantics),
        RandomApply(Solarize(), 0.2),
    ]


@both_semantics
@pytest.mark.parametrize("size", [12, 300])  # whole batches, and one image at a time
def test_a_view_on_the_host_equals_that_of_augment(size, semantics):
    view = AugmentedView(layers_of_byol(size, semantics))
    batch = (255 * varied(6)).astype(np.uint8)
    uniforms = tf.constant(noise(len(batch), view.draws, seed=3))
    expected = view.augment(tf.cast(batch, tf.float32) / 255.0, uniforms)
    found = view.augment_on_host(tf.constant(batch), uniforms)
    # Solarize turns a rounding error at its threshold into a jump.
    differs = np.abs(found - expected) > TOLERANCE
    assert differs.mean() < 1e-4


def test_views_of_the_pipeline_equal_those_of_the_reference():
    source = data.arrays((255 * varied()).astype(np.uint8))
    views = TwoViews(layers_of_byol(12), layers_of_byol(12))
    found = next(iter(views.dataset(source, 24, seed=0)))
    for example, (first, second) in zip(
        source.stream(0).take(24), zip(*found, strict=True), strict=True
    ):
        uniforms = uniforms_of(example, 0, views.draws)
        expected = views(example["image"][None], uniforms[None])
        np.testing.assert_allclose(first, expected[0][0], atol=0.02)
        np.testing.assert_allclose(second, expected[1][0], atol=0.02)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_a_batch_is_divided_into_equal_parts(batch_size):
    view = AugmentedView(layers_of_byol(224))
    part = view.images_at_once(batch_size)
    assert batch_size % part == 0
    assert 1 <= part <= 17
    assert AugmentedView(layers_of_byol(8)).images_at_once(batch_size) == batch_size


class Fade(ImageAugmentation):
    """A layer of a user, without `augment_arrays`."""

    def augment(self, images, uniforms):
        return images / 2.0


@pytest.mark.parametrize("layer", [Fade(), RandomApply(Fade(), 1.0), RandomCrop(8)])
def test_a_layer_without_arrays_is_applied_by_augment(layer):
    assert not layer.has_arrays
    view = AugmentedView([RandomResizedCrop(8), layer])
    batch = (255 * varied(6)).astype(np.uint8)
    uniforms = tf.constant(noise(6, view.draws))
    found = view.augment_on_host(tf.constant(batch), uniforms)
    expected = view.augment(tf.cast(batch, tf.float32) / 255.0, uniforms)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(NotImplementedError, match="augment_arrays"):
        ImageAugmentation.augment_arrays(layer, None, None, None)


def test_labels_stay_with_their_augmented_images():
    view = AugmentedView([RandomResizedCrop(size=2)])
    images, labels = next(iter(view.dataset(make_arrays(), 5, seed=0)))
    assert images.shape == (5, 2, 2, 1)
    for image, label in zip(images.numpy(), labels.numpy(), strict=True):
        np.testing.assert_allclose(image, label / 255.0, atol=1e-6)


def test_a_transform_prepares_images_of_any_size(tmp_path):
    view = AugmentedView(
        [RandomHorizontalFlip(rate=0.0)],
        transform=lambda image: tf.cast(image[:3, :3], tf.float32) / 255.0,
    )
    images, labels = next(iter(view.dataset(make_folder(tmp_path), 4, seed=0)))
    assert images.shape == (4, 3, 3, 1)
    for image, label in zip(images.numpy(), labels.numpy(), strict=True):
        np.testing.assert_allclose(image, label / 255.0, atol=1e-6)


def test_images_of_any_size_without_transform_need_a_crop_first(tmp_path):
    view = AugmentedView([RandomHorizontalFlip()])
    with pytest.raises(ValueError, match="layers must begin with RandomResizedCrop"):
        view.dataset(make_folder(tmp_path), 4, seed=0)


def test_data_without_labels_are_refused():
    unlabelled = data.arrays(np.zeros((4, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match=r"data must have labels. Received: arrays"):
        AugmentedView([RandomResizedCrop(2)]).dataset(unlabelled, 2, seed=0)


@pytest.mark.parametrize("layers", [[], None, ["flip"]])
def test_layers_must_be_a_list_of_layers(layers):
    with pytest.raises(ValueError, match="layers must be a non-empty list of layers"):
        AugmentedView(layers)


def test_draws_of_a_view_are_the_sum_over_its_layers():
    crop, jitter = RandomResizedCrop(4), RandomApply(ColorJitter(), 0.5)
    assert (crop.draws, jitter.draws) == (4, 6)
    assert AugmentedView([crop, jitter, Grayscale()]).draws == 10
