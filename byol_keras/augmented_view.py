"""One augmented view of every image; `views.TwoViews` pairs two of them."""

from collections.abc import Callable, Sequence

import gin
import keras
import tensorflow as tf

from byol_keras.augmentations import ImageAugmentation, is_stateless
from byol_keras.crops import RandomResizedCrop


@gin.register
class AugmentedView:
    """A list of layers, applied in order to every image with its own draws.

    Args:
        layers: `augmentations.ImageAugmentation` layers, or stock keras-cv layers bound
            with `value_range=(0, 1)`. Must begin with `RandomResizedCrop` where images
            differ in size, unless there is a `transform`.
        transform: optional function of one image before it is batched, uint8
            `[h, w, C]` -> float32 `[H, W, C]` in 0..1.

    Raises:
        ValueError: if `layers` is empty, or holds something that is no layer.
    """

    def __init__(self, layers: Sequence, transform: Callable | None = None):
        check_layers("layers", layers)
        self.layers = tuple(layers)
        self.transform = transform

    @property
    def stateless(self) -> bool:
        """Whether all draws are reproducible, which exact resume needs."""
        return all(is_stateless(layer) for layer in self.layers)

    @property
    def draws(self) -> int:
        """Uniform numbers that one image consumes."""
        return sum(_draws(layer) for layer in self.layers)

    def augment(self, images, uniforms, cropped: bool = False) -> tf.Tensor:
        """The view of a batch of images of one size.

        Args:
            images: float32 `[B, H, W, C]` in 0..1.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.
            cropped: bool. The first layer's crop has been made already.

        Returns:
            float32 `[B, S, S, C]` in 0..1.
        """
        start = 0
        for position, layer in enumerate(self.layers):
            stop = start + _draws(layer)
            if isinstance(layer, ImageAugmentation):
                if not (cropped and position == 0):
                    images = layer.augment(images, uniforms[:, start:stop])
            else:
                images = layer(images, training=True)
            start = stop
        return tf.clip_by_value(images, 0.0, 1.0)

    def crop(self, data, image, uniforms) -> tf.Tensor:
        """The first layer's crop of one image of any size, which may be encoded.

        Args:
            data: `image_data.ImageData`, which decodes no more than the crop.
            image: uint8 `[h, w, C]` or a string scalar.
            uniforms: float32 `[draws]`.

        Returns:
            float32 `[S, S, C]` in 0..1.
        """
        layer = self.layers[0]
        height, width = tf.unstack(data.shape(image)[:2])
        box = layer.boxes(height[None], width[None], uniforms[None, : layer.draws])[0]
        return layer.resize(to_float(data.decode_crop(image, box)))

    def require_crop(self, name: str) -> None:
        """Raises a `ValueError` unless the first layer can crop images of any size."""
        if not isinstance(self.layers[0], RandomResizedCrop):
            raise ValueError(
                f"{name} must begin with RandomResizedCrop for images of different "
                f"sizes. Received: {type(self.layers[0]).__name__}"
            )

    def dataset(self, data, batch_size, seed, start=0, pass_length=None):
        """Endless batches of augmented images and their labels.

        Args:
            data: `image_data.ImageData` with labels.
            batch_size: int. Images per batch.
            seed: int. Of the order of the images and of all draws.
            start: int. Images that an earlier part of the run has consumed.
            pass_length: int or None. Images per pass; see `ImageData.stream`.

        Returns:
            `tf.data.Dataset` of float32 `[B, S, S, C]` in 0..1 and int64 `[B]`.

        Raises:
            ValueError: for data without labels; for images that differ in size where
                there is no `transform` and the layers do not begin with
                `RandomResizedCrop`.
        """
        if data.class_names is None:
            raise ValueError(f"data must have labels. Received: {data.name}")
        by_itself = data.image_size is None and self.transform is None
        if by_itself:
            self.require_crop("layers")

        def prepare(element):
            uniforms = uniforms_of(element, seed, self.draws)
            if by_itself:
                image = self.crop(data, element["image"], uniforms)
            else:
                image = data.decode(element["image"])
                image = self.transform(image) if self.transform else to_float(image)
            return image, element["label"], uniforms

        def augment(images, labels, uniforms):
            return self.augment(images, uniforms, cropped=by_itself), labels

        return (
            data.stream(seed, start=start, pass_length=pass_length)
            .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True)
            .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(reproducible())
        )


def check_layers(name: str, layers) -> None:
    """Raises a `ValueError` unless the argument `name` is a list of layers."""
    if not layers or not all(isinstance(x, keras.layers.Layer) for x in layers):
        raise ValueError(
            f"{name} must be a non-empty list of layers. Received: {layers!r}"
        )


def uniforms_of(element: dict, seed: int, count: int) -> tf.Tensor:
    """float32 `[count]` in 0..1: the draws of an image at its place in its pass.

    Args:
        element: dict with `pass` and `index`, int64, as `ImageData.stream` yields.
    """
    key = tf.constant([seed, 0], tf.int64)
    for number in (element["pass"], element["index"]):
        key = tf.random.experimental.stateless_fold_in(key, number)
    return tf.random.stateless_uniform([count], key)


def to_float(images) -> tf.Tensor:
    """uint8 images as float32 in 0..1; float images as they are."""
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return images


def reproducible() -> tf.data.Options:
    """Options of a pipeline whose order must not depend on parallelism."""
    options = tf.data.Options()
    options.deterministic = True
    # Several workers share the images of a global batch; files need not be many.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options


def _draws(layer):
    return layer.draws if isinstance(layer, ImageAugmentation) else 0
