"""One augmented view of every image; `TwoViews` pairs two of them."""

import math
from collections.abc import Callable, Sequence

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.data.sources import PARALLEL
from byol_keras.runtime.host_calls import host_function
from byol_keras.views.augmentations import ImageAugmentation, is_stateless
from byol_keras.views.crops import RandomResizedCrop
from byol_keras.views.pipeline import batches, uniforms_of
from byol_keras.views.resizing import channels_last

# float32 values that fit into the second-level cache of a processor.
_CACHE_VALUES = 2**18
# A batch of more values is split among threads, at the cost of a copy.
_CALL_VALUES = 5 * 2**19
# Views of more bytes are made one by one from crops of different sizes: copying crops
# into batches costs more there than a call per view.
_PACKED_BYTES = 2**17
# TensorFlow uses an array without a copy if its address is a multiple of this.
_ALIGNMENT = 64


@gin.register(module="byol_keras")
class AugmentedView:
    """A list of layers, applied in order, with random draws per image.

    Args:
        layers: `augmentations.ImageAugmentation` layers, or stock keras-cv layers bound
            with `value_range=(0, 1)`. The first must be `RandomResizedCrop` if images
            differ in size and there is no `transform`.
        transform: optional function of one image before it is batched, uint8
            `[h, w, C]` -> float32 `[H, W, C]` in 0..1.

    Raises:
        ValueError: if `layers` is empty, or has an item that is not a layer.
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
        """Number of uniform numbers per image."""
        return sum(_draws(layer) for layer in self.layers)

    def augment(self, images, uniforms, cropped: bool = False) -> tf.Tensor:
        """The view of a batch of images of one size.

        Args:
            images: float32 `[B, H, W, C]` in 0..1.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.
            cropped: bool. Whether the first layer's crop is done already.

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

    @property
    def has_arrays(self) -> bool:
        """Whether `augment_arrays` supports all layers of this view."""
        first, *others = self.layers
        return isinstance(first, RandomResizedCrop) and all(
            isinstance(layer, ImageAugmentation) and layer.has_arrays
            for layer in others
        )

    def augment_arrays(self, images, uniforms) -> tf.Tensor:
        """The view of a batch by compiled loops, on the host only.

        Equals that of `augment` to within 1/255.

        Args:
            images: uint8 `[B, h, w, C]`.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.

        Returns:
            float32 `[B, S, S, C]` in 0..1.
        """
        layer, size = self.layers[0], tf.shape(images)[1:3]
        boxes = layer.boxes(*tf.unstack(size), uniforms[:, : layer.draws])
        return self._augment_boxes(images, boxes, uniforms)

    def _augment_boxes(self, images, boxes, uniforms):
        """The view of boxes, int32 `[B, 4]`, of a batch of images of one size."""
        channels = images.shape[-1]

        def compute(images, boxes, uniforms):
            def crops(part, planes):
                self.layers[0].resize_arrays(images[part], boxes[part], planes)

            return self._compute(crops, channels, uniforms)

        return self._on_host(compute, [images, boxes, uniforms], channels)

    def augment_packed(self, crops, sizes, uniforms, channels: int) -> tf.Tensor:
        """The view of a batch of crops of different sizes, by compiled loops.

        Args:
            crops: uint8 `tf.RaggedTensor` `[B, (bytes)]`, of `RandomResizedCrop.pack`.
            sizes: int32 `[B, 2]`, likewise.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.
            channels: int. Of the crops.

        Returns:
            float32 `[B, S, S, C]` in 0..1, equal to `augment_arrays` of the images.
        """
        layer = self.layers[0]

        def compute(values, splits, sizes, uniforms):
            def unpacked(part, planes):
                splits_of_part = splits[part.start : part.stop + 1]
                layer.resize_packed(values, splits_of_part, sizes[part], planes)

            return self._compute(unpacked, channels, uniforms)

        inputs = [crops.values, crops.row_splits, sizes, uniforms]
        return self._on_host(compute, inputs, channels)

    def _on_host(self, compute, inputs, channels):
        views = host_function(compute, inputs, tf.float32, stateful=False)
        batch = inputs[-1].shape[0]
        return tf.ensure_shape(views, [batch, *self.layers[0].height_width, channels])

    def _compute(self, crops, channels, uniforms):
        """Views of which `crops(part, planes)` fills in the first layer's result."""
        first, *others = self.layers
        shape = (len(uniforms), *first.height_width, channels)
        views = _aligned(shape)
        # As many images at a time as fit into the cache.
        count = max(1, _CACHE_VALUES // math.prod(shape[1:]))
        memory = np.empty((count, channels, *first.height_width), np.float32)
        for begin in range(0, len(views), count):
            part = slice(begin, min(begin + count, len(views)))
            planes = memory[: len(views[part])]
            crops(part, planes)
            chosen = np.ones(len(planes), bool)
            start = first.draws
            for layer in others:
                stop = start + layer.draws
                layer.augment_arrays(planes, uniforms[part, start:stop], chosen)
                start = stop
            channels_last(planes, views[part])
        return views

    def augment_on_host(self, images, uniforms) -> tf.Tensor:
        """The view of a batch in the fastest way that the layers support.

        Args:
            images: `[B, H, W, C]`, uint8, or float32 in 0..1.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.
        """
        if self.has_arrays and images.dtype == tf.uint8:
            return self.augment_arrays(images, uniforms)
        return self.augment(to_float(images), uniforms)

    def prepare_one(self, crop, uniforms) -> tuple[tf.Tensor, ...]:
        """What is computed per image of any size; `finish` does the rest in batches.

        Args:
            crop: uint8 `[h, w, C]`, cut out at `box`.
            uniforms: float32 `[draws]`.
        """
        if self._is_packed(crop.shape[-1]):
            return self.layers[0].pack(crop)
        if self.has_arrays:
            return (self._augment_crop(crop, uniforms),)
        return (self.layers[0].resize(crop),)

    def finish(self, parts, uniforms, channels: int) -> tf.Tensor:
        """The view of a batch of what `prepare_one` returned."""
        if self._is_packed(channels):
            return self.augment_packed(*parts, uniforms, channels)
        (images,) = parts
        if self.has_arrays:
            return images
        return self.augment(images, uniforms, cropped=True)

    def _is_packed(self, channels):
        size = 4 * channels * math.prod(self.layers[0].height_width)
        return self.has_arrays and size <= _PACKED_BYTES

    def _augment_crop(self, crop, uniforms):
        """The view of one crop, float32 `[S, S, C]`, equal to that of `finish`."""
        box = tf.concat([[0, 0], tf.shape(crop)[:2]], axis=0)
        return self._augment_boxes(crop[None], box[None], uniforms[None])[0]

    def images_at_once(self, batch_size: int) -> int:
        """Images that one thread augments at once, a divisor of `batch_size`."""
        if not self.has_arrays:
            return batch_size
        image_values = 3 * math.prod(self.layers[0].height_width)
        most = min(batch_size, max(1, _CALL_VALUES // image_values))
        return max(n for n in range(1, most + 1) if batch_size % n == 0)

    def box(self, shape, uniforms) -> tf.Tensor:
        """int32 `[4]`: the box that the first layer crops from an image of any size.

        Args:
            shape: int32 `[3]` of the image.
            uniforms: float32 `[draws]`.
        """
        height, width = tf.unstack(shape[:2])
        draws = uniforms[None, : self.layers[0].draws]
        return self.layers[0].boxes(height[None], width[None], draws)[0]

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
            data: `ImageData` with labels.
            batch_size: int. Images per batch.
            seed: int. Determines the order of the images and all draws.
            start: int. Images that an earlier part of the run has used.
            pass_length: int or None. Images per pass; see `ImageData.stream`.

        Returns:
            `tf.data.Dataset` of float32 `[B, S, S, C]` in 0..1 and int64 `[B]`.

        Raises:
            ValueError: if the data have no labels; if images differ in size, there is
                no `transform`, and the first layer is not `RandomResizedCrop`.
        """
        if data.class_names is None:
            raise ValueError(f"data must have labels. Received: {data.name}")
        by_itself = data.image_size is None and self.transform is None
        if by_itself:
            self.require_crop("layers")

        def prepare(element):
            uniforms = uniforms_of(element, seed, self.draws)
            if by_itself:
                (crop,) = crops_of(data, element["image"], {self: uniforms})
                return self.prepare_one(crop, uniforms), element["label"], uniforms
            image = data.decode(element["image"])
            image = self.transform(image) if self.transform else image
            return image, element["label"], uniforms

        def augment(images, labels, uniforms):
            if by_itself:
                return self.finish(images, uniforms, data.channels), labels
            return self.augment_on_host(images, uniforms), labels

        stream = data.stream(seed, start=start, pass_length=pass_length)
        examples = stream.map(prepare, **PARALLEL)
        part = self.images_at_once(batch_size)
        return batches(examples, augment, batch_size, part, ragged=by_itself)


def crops_of(data, image, views: dict) -> list[tf.Tensor]:
    """The crops of several views of one image of any size, before resizing.

    Args:
        data: `ImageData`, which decodes only the crops where it can.
        image: uint8 `[h, w, C]` or a string scalar.
        views: `AugmentedView` -> its uniforms, float32 `[draws]`.

    Returns:
        list of uint8 `[height, width, C]`.
    """
    shape = data.shape(image)
    boxes = [view.box(shape, uniforms) for view, uniforms in views.items()]
    return data.decode_crops(image, boxes)


def _aligned(shape) -> np.ndarray:
    """An uninitialized float32 array that TensorFlow uses without a copy."""
    size = 4 * math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def check_layers(name: str, layers) -> None:
    """Raises a `ValueError` unless the argument `name` is a list of layers."""
    if not layers or not all(isinstance(x, keras.layers.Layer) for x in layers):
        raise ValueError(
            f"{name} must be a non-empty list of layers. Received: {layers!r}"
        )


def _draws(layer):
    return layer.draws if isinstance(layer, ImageAugmentation) else 0
