"""The compiled loops of the host compute what the reference, `augment`, computes."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.views import TwoViews
from byol_keras.views.augmentations import (
    ImageAugmentation,
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.augmented_view import AugmentedView, uniforms_of
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Lighting, Solarize
from byol_keras.views.crops import RandomCrop, RandomResizedCrop

from support.images import both_semantics, noise

# Far below 1/255, the step between two bytes.
TOLERANCE = 3e-4

LAYERS = {
    "flip": RandomHorizontalFlip(),
    "vertical flip": RandomVerticalFlip(),
    "grayscale": Grayscale(),
    "solarize": Solarize(0.4),
    "lighting": Lighting(),
    "jitter": ColorJitter(),
    "torchvision jitter": ColorJitter(semantics="torchvision"),
    "strong jitter": ColorJitter(1.5, 0.9, 1.0, 0.5),
    "strong torchvision jitter": ColorJitter(1.5, 0.9, 1.0, 0.5, "torchvision"),
    "jitter without hue": ColorJitter(hue=0.0),
    "blur": GaussianBlur(),
    "torchvision blur": GaussianBlur(semantics="torchvision"),
    "wide blur": GaussianBlur(sigma=(0.01, 5.0), radius=7),
    "sometimes": RandomApply(ColorJitter(), 0.5),
    "never": RandomApply(Solarize(), 0.0),
    "always": RandomApply(RandomApply(GaussianBlur(), 1.0), 1.0),
}


def images(number=24, size=(20, 24), channels=3):
    """Noise, smooth waves, greys and constants, float32 in 0..1."""
    found = noise(number, *size, channels)
    waves = np.sin(np.linspace(0, 9, size[1]) + np.arange(channels)[:, None]).T
    found[: number // 2] = 0.5 + 0.5 * waves + 0.02 * found[: number // 2]
    found[0], found[1], found[2] = 0.0, 1.0, found[2, ..., :1]
    return np.clip(found, 0, 1).astype(np.float32)


def by_arrays(layer, batch, uniforms, chosen=None):
    planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    if chosen is None:
        chosen = np.ones(len(batch), bool)
    layer.augment_arrays(planes, uniforms, chosen)
    return planes.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_are_what_augment_makes(name, channels):
    layer, batch = LAYERS[name], images(channels=channels)
    uniforms = noise(len(batch), layer.draws, seed=1)
    expected = layer.augment(tf.constant(batch), tf.constant(uniforms)).numpy()
    found = by_arrays(layer, batch, uniforms)
    assert layer.has_arrays
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", LAYERS)
def test_images_that_are_not_chosen_stay_as_they_are(name):
    layer, batch = LAYERS[name], images()
    chosen = np.arange(len(batch)) % 2 == 0
    found = by_arrays(layer, batch, noise(len(batch), layer.draws, seed=1), chosen)
    np.testing.assert_array_equal(found[~chosen], batch[~chosen])
    if name != "never":
        assert np.abs(found[chosen] - batch[chosen]).max() > 0.01


@both_semantics
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [9, (30, 13)])
def test_resized_crops_are_those_of_augment(semantics, interpolation, channels, size):
    layer = RandomResizedCrop(size, (0.05, 1.0), (0.5, 2.0), interpolation, semantics)
    batch = (255 * images(channels=channels)).astype(np.uint8)
    uniforms = tf.constant(noise(len(batch), layer.draws, seed=2))
    expected = layer.augment(tf.cast(batch, tf.float32) / 255.0, uniforms).numpy()
    boxes = layer.boxes(*batch.shape[1:3], uniforms).numpy()
    planes = np.empty((len(batch), channels, *layer.height_width), np.float32)
    layer.resize_arrays(batch, boxes, planes)
    found = planes.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


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
def test_a_view_of_a_batch_is_what_augment_makes(size, semantics):
    view = AugmentedView(layers_of_byol(size, semantics))
    batch = (255 * images(6)).astype(np.uint8)
    uniforms = tf.constant(noise(len(batch), view.draws, seed=3))
    expected = view.augment(tf.cast(batch, tf.float32) / 255.0, uniforms)
    found = view.augment_on_host(tf.constant(batch), uniforms)
    # Solarize makes a jump of what is a rounding error before it.
    differs = np.abs(found - expected) > TOLERANCE
    assert differs.mean() < 1e-4


def test_views_of_the_pipeline_are_those_of_the_reference():
    source = data.arrays((255 * images()).astype(np.uint8))
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
def test_a_batch_is_shared_out_in_equal_parts(batch_size):
    view = AugmentedView(layers_of_byol(224))
    part = view.images_at_once(batch_size)
    assert batch_size % part == 0
    assert 1 <= part <= 17
    assert AugmentedView(layers_of_byol(8)).images_at_once(batch_size) == batch_size


class Fade(ImageAugmentation):
    """A user's own layer, which knows nothing of arrays."""

    def augment(self, images, uniforms):
        return images / 2.0


@pytest.mark.parametrize("layer", [Fade(), RandomApply(Fade(), 1.0), RandomCrop(8)])
def test_a_layer_without_arrays_is_augmented_by_augment(layer):
    assert not layer.has_arrays
    view = AugmentedView([RandomResizedCrop(8), layer])
    batch = (255 * images(6)).astype(np.uint8)
    uniforms = tf.constant(noise(6, view.draws))
    found = view.augment_on_host(tf.constant(batch), uniforms)
    expected = view.augment(tf.cast(batch, tf.float32) / 255.0, uniforms)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(NotImplementedError, match="augment_arrays"):
        ImageAugmentation.augment_arrays(layer, None, None, None)
