"""Two views of every image: the asymmetric augmentations of the paper's appendix B."""

import dataclasses
from collections.abc import Sequence

import gin
import keras
import tensorflow as tf

from byol_keras.augmentations import ImageAugmentation, is_stateless
from byol_keras.crops import RandomResizedCrop


@gin.register
class TwoViews:
    """Makes two independently augmented views of every image.

    Every draw is a pure function of `(seed, pass, index)` of the image: results do
    not depend on parallelism, on the batch, or on where a run was interrupted. Stock
    keras-cv random layers are allowed; `stateless` is then False.

    Args:
        view1, view2: lists of layers, applied in order to float32 images in 0..1:
            `augmentations.ImageAugmentation` layers or stock keras-cv layers bound
            with `value_range=(0, 1)`. Each list must begin with `RandomResizedCrop`
            where images differ in size.

    Raises:
        ValueError: if a list is empty, or holds something that is no layer.

    Source: arXiv 2006.07733 appendix B, table 6.
    """

    def __init__(self, view1: Sequence, view2: Sequence):
        for name, layers in (("view1", view1), ("view2", view2)):
            if not layers or not all(isinstance(x, keras.layers.Layer) for x in layers):
                raise ValueError(
                    f"{name} must be a non-empty list of layers. Received: {layers!r}"
                )
        self.view1 = _View(tuple(view1))
        self.view2 = _View(tuple(view2))

    @property
    def stateless(self) -> bool:
        """Whether all draws are reproducible, which exact resume needs."""
        return all(
            is_stateless(layer) for layer in self.view1.layers + self.view2.layers
        )

    @property
    def draws(self) -> int:
        """Uniform numbers that the two views of one image consume."""
        return self.view1.draws + self.view2.draws

    def __call__(self, images, uniforms) -> tuple[tf.Tensor, tf.Tensor]:
        """Views of a batch of images of one size.

        Args:
            images: `[B, H, W, C]`, uint8, or float32 in 0..1.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.

        Returns:
            `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1.
        """
        images = _to_float(images)
        first, second = self._split(uniforms)
        return self.view1.augment(images, first), self.view2.augment(images, second)

    def dataset(self, data, batch_size, seed, start=0, pass_length=None):
        """Endless batches of views.

        Args:
            data: `image_data.ImageData`.
            batch_size: int. Images per batch.
            seed: int. Of the order of the images and of all draws.
            start: int. Images that an earlier part of the run has consumed.
            pass_length: int or None. Images per pass; see `ImageData.stream`.

        Returns:
            `tf.data.Dataset` of `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1.

        Raises:
            ValueError: if images differ in size and a list does not begin with
                `RandomResizedCrop`, and if the two views differ in shape.
        """
        stream = data.stream(seed, start=start, pass_length=pass_length)
        if data.image_size is None:
            prepare, augment = self._crop_one_by_one(data, seed), self._augment_crops
        else:
            prepare, augment = self._decode(data, seed), self
        dataset = (
            stream.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True)
            .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
        view1, view2 = (spec.shape for spec in dataset.element_spec)
        if view1 != view2:
            raise ValueError(
                "view1 and view2 must have the same size. Received: "
                f"{tuple(view1[1:])} and {tuple(view2[1:])}"
            )
        return dataset.with_options(_options())

    def _decode(self, data, seed):
        def prepare(element):
            return data.decode(element["image"]), self._uniforms(seed, element)

        return prepare

    def _crop_one_by_one(self, data, seed):
        """Images of any size: each is cropped by itself, and only the crop decoded."""
        self.view1.require_crop("view1")
        self.view2.require_crop("view2")

        def prepare(element):
            uniforms = self._uniforms(seed, element)
            first, second = self._split(uniforms)
            crop1 = self.view1.crop(data, element["image"], first)
            crop2 = self.view2.crop(data, element["image"], second)
            return crop1, crop2, uniforms

        return prepare

    def _augment_crops(self, crops1, crops2, uniforms):
        first, second = self._split(uniforms)
        return (
            self.view1.augment(crops1, first, cropped=True),
            self.view2.augment(crops2, second, cropped=True),
        )

    def _split(self, uniforms):
        return uniforms[..., : self.view1.draws], uniforms[..., self.view1.draws :]

    def _uniforms(self, seed, element):
        """float32 `[draws]` in 0..1 for one image at its place in its pass."""
        key = tf.constant([seed, 0], tf.int64)
        for number in (element["pass"], element["index"]):
            key = tf.random.experimental.stateless_fold_in(key, number)
        return tf.random.stateless_uniform([self.draws], key)


@dataclasses.dataclass(frozen=True)
class _View:
    """One list of layers, and how it shares out the uniform numbers of an image."""

    layers: tuple[keras.layers.Layer, ...]

    @property
    def draws(self):
        return sum(_draws(layer) for layer in self.layers)

    def require_crop(self, name):
        if not isinstance(self.layers[0], RandomResizedCrop):
            raise ValueError(
                f"{name} must begin with RandomResizedCrop for images of different "
                f"sizes. Received: {type(self.layers[0]).__name__}"
            )

    def crop(self, data, image, uniforms):
        """The first layer's crop of one image, which may still be encoded."""
        layer = self.layers[0]
        height, width = tf.unstack(data.shape(image)[:2])
        box = layer.boxes(height[None], width[None], uniforms[None, : layer.draws])[0]
        return layer.resize(_to_float(data.decode_crop(image, box)))

    def augment(self, images, uniforms, cropped=False):
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


def _draws(layer):
    return layer.draws if isinstance(layer, ImageAugmentation) else 0


def _to_float(images):
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return images


def _options():
    options = tf.data.Options()
    options.deterministic = True
    # Several workers share the images of a global batch; files need not be many.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options
