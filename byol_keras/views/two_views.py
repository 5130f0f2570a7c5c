"""Two views of every image: the asymmetric augmentations of the paper's appendix B."""

import weakref
from collections.abc import Sequence

import gin
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.data.sources import PARALLEL
from byol_keras.runtime.argument_checks import check_choice
from byol_keras.views.augmented_view import (
    AugmentedView,
    check_layers,
    crops_of,
)
from byol_keras.views.pipeline import batches, uniforms_of

PLACES = ("host", "device")


@gin.register(module="byol_keras")
class TwoViews:
    """Produces two independently augmented views of every image.

    Every random draw is a pure function of `(seed, pass, index)` of the image: results
    do not depend on parallelism, on the batch, or on interruptions of a run. Stock
    keras-cv random layers are allowed; `stateless` is then False.

    Args:
        view1, view2: lists of layers, applied in order to float32 images in 0..1:
            `augmentations.ImageAugmentation` layers or stock keras-cv layers bound
            with `value_range=(0, 1)`. The first of each list must be
            `RandomResizedCrop` if images differ in size.
        place: "host", in the `tf.data` pipeline, or "device", inside the training step
            on the accelerator. Images that differ in size are cropped on the host in
            either case. The views are equal to within 2/255.

    Raises:
        ValueError: if a list is empty, or has an item that is not a layer; if `place`
            is neither "host" nor "device"; if it is "device" and a layer draws its own
            random numbers.

    Source: arXiv 2006.07733 appendix B, table 6.
    """

    def __init__(self, view1: Sequence, view2: Sequence, place: str = "host"):
        check_layers("view1", view1)
        check_layers("view2", view2)
        self.view1 = AugmentedView(view1)
        self.view2 = AugmentedView(view2)
        check_choice("place", place, PLACES)
        self.place = place
        # Building the dataset that a shape is read from takes seconds.
        self._shapes = weakref.WeakKeyDictionary()
        if place == "device" and not self.stateless:
            raise ValueError(
                "place must be 'host' for layers that draw random numbers of their own."
                f" Received: {place!r}"
            )

    @property
    def stateless(self) -> bool:
        """Whether all draws are reproducible, which exact resume needs."""
        return self.view1.stateless and self.view2.stateless

    @property
    def draws(self) -> int:
        """Number of uniform numbers for the two views of one image."""
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

    def on_device(self, *parts) -> tuple[tf.Tensor, tf.Tensor]:
        """Views of an element of `dataset` if `place` is "device"; XLA can compile it.

        Args:
            parts: images uint8 `[B, H, W, C]` and uniforms float32 `[B, draws]`; or the
                crops of the two views, float32 `[B, S, S, C]`, and uniforms.

        Returns:
            `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1.
        """
        *images, uniforms = parts
        if len(images) == 1:
            return self(images[0], uniforms)
        first, second = self._split(uniforms)
        return (
            self.view1.augment(images[0], first, cropped=True),
            self.view2.augment(images[1], second, cropped=True),
        )

    def dataset(self, data, batch_size, seed, start=0, pass_length=None):
        """Endless batches of views.

        Args:
            data: `ImageData`.
            batch_size: int. Images per batch.
            seed: int. Determines the order of the images and all draws.
            start: int. Images that an earlier part of the run has used.
            pass_length: int or None. Images per pass; see `ImageData.stream`.

        Returns:
            `tf.data.Dataset` of `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1;
            if `place` is "device", of the arguments of `on_device`.

        Raises:
            ValueError: if images differ in size and the first layer of a list is not
                `RandomResizedCrop`; if the two views differ in shape.
        """
        of_one_size = data.image_size is not None
        if not of_one_size:
            self.view1.require_crop("view1")
            self.view2.require_crop("view2")
        stream = data.stream(seed, start=start, pass_length=pass_length)
        prepare = self._decode if of_one_size else self._crop
        examples = stream.map(prepare(data, seed), **PARALLEL)
        if self.place == "device":
            dataset = batches(examples, lambda *parts: parts, batch_size, batch_size)
            _check_same_size(dataset.map(self.on_device).element_spec)
            return dataset
        augment = self._augment_on_host if of_one_size else self._finish(data.channels)
        part = min(view.images_at_once(batch_size) for view in (self.view1, self.view2))
        dataset = batches(examples, augment, batch_size, part, ragged=not of_one_size)
        _check_same_size(dataset.element_spec)
        return dataset

    def shape(self, data) -> tuple[int, int, int]:
        """Height, width and channels of the views of some data.

        Args:
            data: `ImageData`.

        Raises:
            ValueError: as `dataset` does.
        """
        if data not in self._shapes:
            dataset = self.dataset(data, batch_size=1, seed=0)
            if self.place == "device":
                dataset = dataset.map(self.on_device)
            self._shapes[data] = tuple(dataset.element_spec[0].shape[1:])
        return self._shapes[data]

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

    def _crop(self, data, seed):
        """Images of any size: each is cropped alone, and only its crops are decoded."""

        def prepare(element):
            uniforms = uniforms_of(element, seed, self.draws)
            first, second = self._split(uniforms)
            parts = {self.view1: first, self.view2: second}
            crops = crops_of(data, element["image"], parts)
            if self.place == "device":
                pairs = zip(parts, crops, strict=True)
                return *(view.layers[0].resize(crop) for view, crop in pairs), uniforms
            triples = zip(parts, crops, parts.values(), strict=True)
            return *(view.prepare_one(*rest) for view, *rest in triples), uniforms

        return prepare

    def _finish(self, channels):
        def finish(parts1, parts2, uniforms):
            first, second = self._split(uniforms)
            return (
                self.view1.finish(parts1, first, channels),
                self.view2.finish(parts2, second, channels),
            )

        return finish

    def _split(self, uniforms):
        return uniforms[..., : self.view1.draws], uniforms[..., self.view1.draws :]


def _check_same_size(specs):
    view1, view2 = (spec.shape for spec in specs)
    if view1 != view2:
        raise ValueError(
            "view1 and view2 must have the same size. Received: "
            f"{tuple(view1[1:])} and {tuple(view2[1:])}"
        )
