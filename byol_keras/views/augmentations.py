"""Augmentations of BYOL as keras-cv layers: exact, per image, reproducible.

A layer is a pure function of a batch and of uniform numbers, `augment(images,
uniforms)`; `TwoViews` derives these numbers from seed, pass and image index. Called as
an ordinary keras-cv layer, it draws the numbers itself. Every operation of `augment`
has static shapes, so that it runs in `tf.data`, on accelerators and under XLA; it is
the reference. On the host, `augment_arrays` computes the same to within 1/255, many
times faster, by the compiled loops of `kernels`.

This module has the base class, the flips and `RandomApply`; `crops`, `colors` and
`blurs` build on it.

Where the two reference implementations differ, `semantics` chooses: "deepmind"
(deepmind-research, float images) or "torchvision" (mmselfsup 0.x, PIL images).
Deviation: torchvision semantics stay in float; PIL's rounding to uint8 after every
operation, under 1/255 each, is not reproduced.
"""

import math

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.runtime.argument_checks import check_choice
from byol_keras.runtime.deferred_import import deferred
from byol_keras.views import kernels

# keras-cv needs TensorFlow Datasets only for its own datasets.
with deferred("tensorflow_datasets"):
    import keras_cv

SEMANTICS = ("deepmind", "torchvision")


@keras.saving.register_keras_serializable(package="byol_keras")
class ImageAugmentation(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """Base: an augmentation that is a pure function of images and uniform draws.

    Subclasses set `draws`, the number of uniform numbers per image, and implement
    `augment`. A call takes float images in 0..1, `[H, W, C]` or `[B, H, W, C]`, or a
    dict of `images` and `labels`, and draws the numbers itself.

    Args:
        seed: int or None. Seed of the generator that calls use; `augment` does not.
            Defaults to None, TensorFlow's global generator.
    """

    draws = 0

    def __init__(self, seed=None, **kwargs):
        # Views are float32 even if the model computes in half precision.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.seed = seed
        if seed is not None:  # keras-cv treats seed 0 like None
            self._random_generator = tf.random.Generator.from_seed(seed)
        self.built = True  # has no variables; avoids Keras's warning on inner layers

    def augment(self, images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        """Augments every image with its own draws.

        Args:
            images: float32 `[B, H, W, C]` in 0..1. `C` must be known statically.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.

        Returns:
            float32 `[B, H, W, C]` in 0..1; a crop changes `H` and `W`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define augment().")

    def augment_arrays(
        self, planes: np.ndarray, uniforms: np.ndarray, chosen: np.ndarray
    ) -> None:
        """Augments some images of a batch in place, as `augment` does.

        Layers that do not define it are applied by `augment`; see `has_arrays`.

        Args:
            planes: float32 `[n, C, H, W]` in 0..1, contiguous.
            uniforms: float32 `[n, draws]` in 0..1, 1 excluded.
            chosen: bool `[n]`. The other images do not change.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define augment_arrays()."
        )

    @property
    def has_arrays(self) -> bool:
        """Whether the layer defines `augment_arrays`."""
        return type(self).augment_arrays is not ImageAugmentation.augment_arrays

    def call(self, inputs):
        parts = inputs if isinstance(inputs, dict) else {"images": inputs}
        require(
            {"images"} <= set(parts) <= {"images", "labels", "targets"},
            "inputs must hold images and optionally labels or targets",
            sorted(parts),
        )
        require(
            not isinstance(parts["images"], tf.RaggedTensor),
            "images must be of one size",
            "a RaggedTensor",
        )
        return super().call(inputs)

    def get_random_transformation_batch(self, batch_size, **kwargs):
        return self._random_generator.uniform((batch_size, self.draws))

    def augment_images(self, images, transformations, **kwargs):
        return self.augment(images, transformations)

    def augment_labels(self, labels, transformations, **kwargs):
        return labels

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


class _RandomFlip(ImageAugmentation):
    draws = 1
    axis = None

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = _rate(rate)

    def augment(self, images, uniforms):
        flipped = tf.reverse(images, axis=[self.axis])
        return _choose(uniforms[:, 0] < self.rate, flipped, images)

    def augment_arrays(self, planes, uniforms, chosen):
        chosen = chosen & (uniforms[:, 0] < self.rate)
        kernels.mirror(planes, chosen, left_right=self.axis == 2)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomHorizontalFlip(_RandomFlip):
    """Mirrors an image left to right with probability `rate` (default 0.5)."""

    axis = 2


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomVerticalFlip(_RandomFlip):
    """Turns an image upside down with probability `rate` (default 0.5)."""

    axis = 1


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomApply(ImageAugmentation):
    """Applies a layer to every image with probability `rate`.

    Args:
        layer: Keras layer that keeps the shape of its images. If it is not an
            `ImageAugmentation`, it draws for itself: see `is_stateless`.
        rate: float in 0..1.

    Raises:
        ValueError: if `layer` is not a layer or changes the shape, or `rate` is not
            in 0..1.
    """

    def __init__(self, layer, rate, **kwargs):
        super().__init__(**kwargs)
        require(
            isinstance(layer, keras.layers.Layer), "layer must be a keras layer", layer
        )
        self.layer = layer
        self.rate = _rate(rate)

    @property
    def draws(self):
        nested = isinstance(self.layer, ImageAugmentation)
        return 1 + self.layer.draws if nested else 1

    def augment(self, images, uniforms):
        images = tf.convert_to_tensor(images)
        if self.rate == 0.0:
            return images
        augmented = self._augment_all(images, uniforms[:, 1:])
        require(
            images.shape.is_compatible_with(augmented.shape),
            f"layer must keep the shape {images.shape}",
            augmented.shape,
        )
        if self.rate == 1.0:
            return augmented
        return _choose(uniforms[:, 0] < self.rate, augmented, images)

    def augment_arrays(self, planes, uniforms, chosen):
        chosen = chosen & (uniforms[:, 0] < self.rate)
        if chosen.any():
            self.layer.augment_arrays(planes, uniforms[:, 1:], chosen)

    @property
    def has_arrays(self):
        return isinstance(self.layer, ImageAugmentation) and self.layer.has_arrays

    def _augment_all(self, images, uniforms):
        if isinstance(self.layer, ImageAugmentation):
            return self.layer.augment(images, uniforms)
        return tf.cast(self.layer(images, training=True), images.dtype)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "rate": self.rate}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def is_stateless(layer: keras.layers.Layer) -> bool:
    """Whether the layer's results are a pure function of images and uniform draws."""
    if isinstance(layer, RandomApply):
        return is_stateless(layer.layer)
    return isinstance(layer, ImageAugmentation)


def between(uniforms: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Uniform draws in 0..1 as uniform draws in low..high."""
    return low + uniforms * (high - low)


def whole(uniforms: tf.Tensor, count) -> tf.Tensor:
    """Uniform draws in 0..1 as whole numbers 0..count-1, in float32."""
    return tf.floor(uniforms * count)


def resample(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Matrices `[B, S, H]`, `[B, T, W]` applied to `[B, H, W, C]`: `[B, S, T, C]`."""
    resized_rows = tf.einsum("bsh,bhwc->bswc", rows, images)
    return tf.einsum("btw,bswc->bstc", columns, resized_rows)


def _choose(chosen: tf.Tensor, augmented: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    return tf.where(chosen[:, None, None, None], augmented, images)


def require(condition: bool, rule: str, value) -> None:
    """Raises a `ValueError` with the rule and the value if the condition is false."""
    if not condition:
        raise ValueError(f"{rule}. Received: {value!r}")


def known_semantics(semantics: str) -> str:
    """The argument `semantics`, after a check that it is one of `SEMANTICS`."""
    check_choice("semantics", semantics, SEMANTICS)
    return semantics


def interval(name: str, bounds, highest: float = math.inf) -> tuple:
    """The argument `name` as (low, high), after a check of its order and range."""
    require(
        len(bounds) == 2 and 0.0 < bounds[0] <= bounds[1] <= highest,
        f"{name} must be (low, high) with 0 < low <= high <= {highest}",
        bounds,
    )
    return tuple(bounds)


def _rate(rate: float) -> float:
    require(0.0 <= rate <= 1.0, "rate must be in 0..1", rate)
    return rate
