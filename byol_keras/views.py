"""Two views of every image: the asymmetric augmentations of the paper's appendix B."""

from collections.abc import Sequence

import gin
import tensorflow as tf

from byol_keras.augmented_view import (
    AugmentedView,
    batches,
    check_layers,
    to_float,
    uniforms_of,
)
from byol_keras.sources import PARALLEL


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
        check_layers("view1", view1)
        check_layers("view2", view2)
        self.view1 = AugmentedView(view1)
        self.view2 = AugmentedView(view2)

    @property
    def stateless(self) -> bool:
        """Whether all draws are reproducible, which exact resume needs."""
        return self.view1.stateless and self.view2.stateless

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
        images = to_float(images)
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
        if data.image_size is None:
            self.view1.require_crop("view1")
            self.view2.require_crop("view2")
            prepare, augment = self._augment_one(data, seed), self._finish
        else:
            prepare, augment = self._decode(data, seed), self._augment_on_host
        stream = data.stream(seed, start=start, pass_length=pass_length)
        part = min(view.images_at_once(batch_size) for view in (self.view1, self.view2))
        examples = stream.map(prepare, **PARALLEL)
        dataset = batches(examples, augment, batch_size, part)
        view1, view2 = (spec.shape for spec in dataset.element_spec)
        if view1 != view2:
            raise ValueError(
                "view1 and view2 must have the same size. Received: "
                f"{tuple(view1[1:])} and {tuple(view2[1:])}"
            )
        return dataset

    def _decode(self, data, seed):
        def prepare(element):
            return data.decode(element["image"]), uniforms_of(element, seed, self.draws)

        return prepare

    def _augment_on_host(self, images, uniforms):
        first, second = self._split(uniforms)
        return (
            self.view1.augment_on_host(images, first),
            self.view2.augment_on_host(images, second),
        )

    def _augment_one(self, data, seed):
        """Images of any size: each is cropped by itself, and only the crop decoded."""

        def prepare(element):
            uniforms = uniforms_of(element, seed, self.draws)
            first, second = self._split(uniforms)
            view1 = self.view1.augment_one(data, element["image"], first)
            view2 = self.view2.augment_one(data, element["image"], second)
            return view1, view2, uniforms

        return prepare

    def _finish(self, images1, images2, uniforms):
        first, second = self._split(uniforms)
        return self.view1.finish(images1, first), self.view2.finish(images2, second)

    def _split(self, uniforms):
        return uniforms[..., : self.view1.draws], uniforms[..., self.view1.draws :]
