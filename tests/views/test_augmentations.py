"""Every layer is a pure function of images and draws, and an ordinary Keras layer."""

import gin
import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views.augmentations import (
    ImageAugmentation,
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    is_stateless,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomResizedCrop

from support.images import ALMOST_ONE, augmented, noise


def layers():
    """One of each layer, with several draws and semantics."""
    return [
        RandomResizedCrop(8),
        RandomResizedCrop((6, 9), interpolation="bilinear", semantics="torchvision"),
        RandomHorizontalFlip(),
        RandomVerticalFlip(0.25),
        ColorJitter(),
        ColorJitter(semantics="torchvision"),
        Grayscale(),
        GaussianBlur(),
        GaussianBlur(semantics="torchvision"),
        Solarize(),
        RandomApply(RandomApply(ColorJitter(), 0.8), rate=0.9),
    ]


every_layer = pytest.mark.parametrize(
    "layer", layers(), ids=lambda layer: f"{layer.name}"
)


# Every layer


@every_layer
def test_same_uniforms_give_the_same_result(layer):
    images, uniforms = noise(3, 12, 10, 3), noise(3, layer.draws, seed=1)
    first, second = layer.augment(images, uniforms), layer.augment(images, uniforms)
    np.testing.assert_array_equal(first, second)


@every_layer
def test_an_image_alone_equals_its_row_in_a_batch(layer):
    images, uniforms = noise(5, 12, 10, 3), noise(5, layer.draws, seed=1)
    batch = layer.augment(images, uniforms).numpy()
    for i in range(5):
        alone = layer.augment(images[i : i + 1], uniforms[i : i + 1])[0]
        np.testing.assert_allclose(alone, batch[i], atol=2e-6)


@every_layer
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_results_are_float32_in_0_to_1_for_any_number_of_channels(layer, channels):
    images = np.round(noise(16, 7, 11, channels))
    result = layer.augment(images, noise(16, layer.draws, seed=1)).numpy()
    assert result.dtype == np.float32
    assert result.shape[-1] == channels
    assert result.min() >= 0.0
    assert result.max() <= 1.0


@every_layer
def test_runs_in_a_dataset_map_with_unknown_batch_size(layer):
    images, uniforms = noise(5, 12, 10, 3), noise(5, layer.draws, seed=1)
    dataset = tf.data.Dataset.from_tensor_slices((images, uniforms)).batch(2)
    dataset = dataset.map(layer.augment)
    assert dataset.element_spec.shape[0] is None
    assert dataset.element_spec.shape[-1] == 3
    np.testing.assert_allclose(
        np.concatenate(list(dataset)), layer.augment(images, uniforms), atol=2e-6
    )


def test_a_view_of_all_layers_compiles_under_xla():
    view = [RandomResizedCrop(8), RandomApply(ColorJitter(), 0.8), GaussianBlur()]

    def augment(images, uniforms):
        for layer in view:
            images = layer.augment(images, uniforms[:, : layer.draws])
        return images

    images, uniforms = noise(2, 10, 10, 3), noise(2, 6, seed=1)
    compiled = tf.function(augment, jit_compile=True)
    np.testing.assert_allclose(
        compiled(images, uniforms), augment(images, uniforms), atol=1e-5
    )


@every_layer
def test_config_round_trip_keeps_the_layer(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    images, uniforms = noise(2, 12, 10, 3), noise(2, layer.draws, seed=1)
    np.testing.assert_array_equal(
        again.augment(images, uniforms), layer.augment(images, uniforms)
    )


# As ordinary keras-cv layers


def test_as_a_layer_every_image_of_a_batch_has_its_own_draw():
    layer = RandomHorizontalFlip(seed=0)
    images = np.tile(noise(1, 2, 4, 3), (200, 1, 1, 1))
    result = layer(images).numpy()
    flipped = np.mean([np.array_equal(x, images[0, :, ::-1]) for x in result])
    kept = np.mean([np.array_equal(x, images[0]) for x in result])
    assert flipped + kept == 1.0
    assert 0.35 < flipped < 0.65


def test_as_a_layer_it_accepts_one_image():
    image = noise(4, 5, 3)
    result = RandomHorizontalFlip(rate=1.0)(image)
    np.testing.assert_array_equal(result, image[:, ::-1])


def test_as_a_layer_it_keeps_labels():
    inputs = {"images": noise(2, 4, 5, 3), "labels": np.array([3.0, 4.0], np.float32)}
    result = Solarize()(inputs)
    np.testing.assert_array_equal(result["labels"], inputs["labels"])
    assert not np.array_equal(result["images"], inputs["images"])


@pytest.mark.filterwarnings("error:.*build")
def test_as_a_layer_it_runs_in_a_dataset_map():
    layer = RandomApply(ColorJitter(), rate=0.5)
    dataset = tf.data.Dataset.from_tensor_slices(noise(6, 4, 4, 3)).batch(3)
    shapes = [batch.shape for batch in dataset.map(lambda images: layer(images))]
    assert shapes == [(3, 4, 4, 3), (3, 4, 4, 3)]


@pytest.mark.parametrize("seed", [0, 7])
def test_as_a_layer_the_same_seed_gives_the_same_draws(seed):
    images = noise(8, 4, 4, 3)
    first, second = ColorJitter(seed=seed)(images), ColorJitter(seed=seed)(images)
    np.testing.assert_array_equal(first, second)


def test_as_a_layer_it_stays_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert Solarize()(noise(2, 4, 4, 3)).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy("float32")


def test_ragged_images_are_refused():
    images = tf.ragged.stack([noise(3, 4, 3), noise(5, 4, 3)])
    with pytest.raises(ValueError, match="images must be of one size"):
        Solarize()(images)


def test_bounding_boxes_are_refused():
    inputs = {"images": noise(1, 4, 4, 3), "bounding_boxes": np.zeros((1, 1, 4))}
    with pytest.raises(
        ValueError, match=r"optionally labels or targets.*bounding_boxes"
    ):
        RandomHorizontalFlip()(inputs)


def test_a_dict_without_images_is_refused():
    with pytest.raises(ValueError, match=r"inputs must hold images.*\['labels'\]"):
        Solarize()({"labels": np.zeros(1, np.float32)})


# Flips


@pytest.mark.parametrize("layer", [RandomHorizontalFlip, RandomVerticalFlip])
def test_flip_happens_below_the_rate_only(layer):
    images = noise(1, 3, 4, 2)
    mirrored = images[:, :, ::-1] if layer is RandomHorizontalFlip else images[:, ::-1]
    np.testing.assert_array_equal(augmented(layer(0.5), images, 0.49), mirrored)
    np.testing.assert_array_equal(augmented(layer(0.5), images, 0.5), images)
    np.testing.assert_array_equal(augmented(layer(0.0), images, 0.0), images)
    np.testing.assert_array_equal(augmented(layer(1.0), images, ALMOST_ONE), mirrored)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_rate_outside_0_to_1_is_refused(rate):
    for make in (RandomHorizontalFlip, lambda r: RandomApply(Solarize(), r)):
        with pytest.raises(ValueError, match=r"rate must be in 0\.\.1. Received"):
            make(rate)


# RandomApply, is_stateless, gin


def test_random_apply_augments_a_share_of_the_images():
    images = np.ones((20_000, 1, 1, 1), np.float32)
    gate = RandomApply(Solarize(), rate=0.2)
    result = gate.augment(images, noise(20_000, gate.draws)).numpy()
    assert abs(np.mean(result == 0.0) - 0.2) < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_random_apply_decides_by_its_first_draw_and_passes_on_the_others(rate):
    inner = ColorJitter()
    images, uniforms = tf.constant(noise(6, 4, 4, 3)), noise(6, 6, seed=1)
    result = RandomApply(inner, rate).augment(images, uniforms).numpy()
    jittered = inner.augment(images, uniforms[:, 1:]).numpy()
    for i in range(6):
        expected = jittered[i] if uniforms[i, 0] < rate else images[i]
        np.testing.assert_array_equal(result[i], expected)


def test_random_apply_applies_a_stock_layer_to_single_images():
    stock = keras_cv.layers.Solarization((0, 1), threshold_factor=(0.0, 0.0))
    gate = RandomApply(stock, rate=0.5)
    assert gate.draws == 1
    images = np.full((4, 2, 2, 3), 0.75, np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(
        (images, np.float32([[0.1], [0.9], [0.4], [0.6]]))
    ).batch(4)
    result = next(iter(dataset.map(gate.augment))).numpy()
    np.testing.assert_allclose(result[:, 0, 0, 0], [0.25, 0.75, 0.25, 0.75], atol=1e-2)


def test_random_apply_with_a_stock_layer_is_rebuilt_from_its_config():
    gate = RandomApply(keras_cv.layers.RandomFlip("vertical"), rate=0.3)
    again = RandomApply.from_config(gate.get_config())
    assert isinstance(again.layer, keras_cv.layers.RandomFlip)
    assert again.layer.mode == "vertical"
    assert again.rate == 0.3


def test_random_apply_refuses_a_layer_that_changes_the_shape():
    gate = RandomApply(RandomResizedCrop(3), rate=0.5)
    with pytest.raises(ValueError, match="layer must keep the shape"):
        gate.augment(tf.zeros((1, 4, 4, 3)), tf.zeros((1, gate.draws)))


def test_random_apply_refuses_what_is_not_a_layer():
    with pytest.raises(ValueError, match="layer must be a keras layer"):
        RandomApply(Solarize, rate=0.5)


def test_only_augmentations_of_uniforms_are_stateless():
    stock = keras_cv.layers.RandomFlip()
    assert is_stateless(ColorJitter())
    assert is_stateless(RandomApply(RandomApply(Solarize(), 0.5), 0.5))
    assert not is_stateless(stock)
    assert not is_stateless(RandomApply(RandomApply(stock, 0.5), 0.5))


def test_a_custom_augmentation_needs_only_draws_and_augment():
    class Fade(ImageAugmentation):
        draws = 1

        def augment(self, images, uniforms):
            return images * uniforms[:, :, None, None]

    result = RandomApply(Fade(), 1.0).augment(
        tf.ones((1, 2, 2, 1)), np.float32([[0.0, 0.25]])
    )
    np.testing.assert_array_equal(result, np.full((1, 2, 2, 1), 0.25))
    assert is_stateless(Fade())


def test_gin_builds_layers_with_flat_scopes():
    @gin.register(module="test_augmentations")
    def view(layers):
        return layers

    config = """
        view.layers = [@RandomResizedCrop(), @jitter/RandomApply(), @blur/RandomApply()]
        RandomResizedCrop.size = 8
        jitter/RandomApply.layer = @ColorJitter()
        jitter/RandomApply.rate = 0.8
        blur/RandomApply.layer = @GaussianBlur()
        blur/RandomApply.rate = 0.1
        ColorJitter.semantics = "torchvision"
    """
    with gin.unlock_config():
        gin.clear_config()
        gin.parse_config(config)
        crop, jitter, blur = gin.get_configurable(view)()
        gin.clear_config()
    assert (crop.size, jitter.rate, blur.rate) == (8, 0.8, 0.1)
    assert jitter.layer.semantics == "torchvision"
    assert isinstance(blur.layer, GaussianBlur)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(jitter)
    )
    assert again.layer.semantics == "torchvision"
