"""Augmentations that change the image size: RandomResizedCrop and RandomCrop."""

import math

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.runtime.argument_checks import check_choice, is_positive_int
from byol_keras.runtime.host_calls import host_function
from byol_keras.views.augmentations import (
    ImageAugmentation,
    between,
    interval,
    known_semantics,
    require,
    resample,
    whole,
)
from byol_keras.views.resizing import resized_crops, resized_packed

# Boxes that torchvision draws before it falls back to the centre.
CROP_TRIES = 10


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomResizedCrop(ImageAugmentation):
    """Crops a box of random area, aspect ratio and place, and resizes it.

    Under "deepmind" one box is drawn, clipped to the image, and resized without
    antialiasing. Under "torchvision" up to 10 boxes are drawn until one fits the image;
    if none does, the largest centre crop within `aspect_ratio` is used. The resize
    antialiases.

    Args:
        size: int or (height, width). Size of the result, each at least 1.
        area: (low, high). Share of the image's area, drawn uniformly. Within 0..1.
        aspect_ratio: (low, high). Width / height; its logarithm is uniform.
        interpolation: "bicubic" (Keys, a = -0.5) or "bilinear".
        semantics: "deepmind" or "torchvision".

    Raises:
        ValueError: if an argument is out of its range.

    Source: arXiv 2006.07733 appendix B; deepmind-research byol and torchvision for
        the sampling of the box.
    """

    def __init__(
        self,
        size,
        area=(0.08, 1.0),
        aspect_ratio=(3 / 4, 4 / 3),
        interpolation="bicubic",
        semantics="deepmind",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.size = tuple(size) if isinstance(size, (list, tuple)) else size
        self.height_width = _height_width(size)
        self.area = interval("area", area, highest=1.0)
        self.aspect_ratio = interval("aspect_ratio", aspect_ratio)
        check_choice("interpolation", interpolation, _KERNELS)
        self.interpolation = interpolation
        self.semantics = known_semantics(semantics)

    @property
    def draws(self):
        return 4 if self.semantics == "deepmind" else 2 * CROP_TRIES + 2

    def boxes(self, heights, widths, uniforms: tf.Tensor) -> tf.Tensor:
        """Draws a box inside every image.

        Args:
            heights, widths: int, or int32 `[B]`. Sizes of the images, each at least 1.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.

        Returns:
            int32 `[B, 4]`: top, left, height, width.
        """
        batch = tf.shape(uniforms)[:1]
        heights = tf.broadcast_to(tf.cast(heights, tf.float32), batch)
        widths = tf.broadcast_to(tf.cast(widths, tf.float32), batch)
        if self.semantics == "deepmind":
            h, w = self._box_sizes(heights, widths, uniforms[:, 0], uniforms[:, 1])
            # The lower bound matters only for images of a few pixels.
            h = tf.clip_by_value(h, 1.0, heights)
            w = tf.clip_by_value(w, 1.0, widths)
            top = whole(uniforms[:, 2], heights - h + 1.0)
            left = whole(uniforms[:, 3], widths - w + 1.0)
        else:
            top, left, h, w = self._box_of_tries(heights, widths, uniforms)
        return tf.cast(tf.stack([top, left, h, w], axis=1), tf.int32)

    def _box_sizes(self, heights, widths, area_draws, ratio_draws):
        area = heights * widths * between(area_draws, *self.area)
        low, high = (math.log(bound) for bound in self.aspect_ratio)
        ratio = tf.exp(between(ratio_draws, low, high))
        return tf.round(tf.sqrt(area / ratio)), tf.round(tf.sqrt(area * ratio))

    def _box_of_tries(self, heights, widths, uniforms):
        """The first box that fits the image, or else the centre."""
        h, w = self._box_sizes(
            heights[:, None],
            widths[:, None],
            uniforms[:, :CROP_TRIES],
            uniforms[:, CROP_TRIES : 2 * CROP_TRIES],
        )
        fits = (h >= 1) & (h <= heights[:, None]) & (w >= 1) & (w <= widths[:, None])
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        found = tf.reduce_any(fits, axis=1)
        centre_h, centre_w = self._centre_size(heights, widths)
        h = tf.where(found, tf.gather(h, first, batch_dims=1), centre_h)
        w = tf.where(found, tf.gather(w, first, batch_dims=1), centre_w)
        top = whole(uniforms[:, -2], heights - h + 1.0)
        left = whole(uniforms[:, -1], widths - w + 1.0)
        top = tf.where(found, top, (heights - h) // 2)
        left = tf.where(found, left, (widths - w) // 2)
        return top, left, h, w

    def _centre_size(self, heights, widths):
        low, high = self.aspect_ratio
        h = tf.minimum(heights, tf.maximum(1.0, tf.round(widths / low)))
        w = tf.minimum(widths, tf.maximum(1.0, tf.round(heights * high)))
        return h, w

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes one crop.

        Args:
            image: `[h, w, C]`, uint8, or float32 in 0..1.

        Returns:
            float32 `[height, width, C]` in 0..1.
        """
        antialias = self.semantics == "torchvision"
        resized = tf.image.resize(
            image, self.height_width, method=self.interpolation, antialias=antialias
        )
        if image.dtype == tf.uint8:
            resized *= 1.0 / 255.0
        return tf.clip_by_value(resized, 0.0, 1.0)

    def resize_arrays(self, images, boxes, planes: np.ndarray) -> None:
        """Crops boxes and resizes them like `augment`, by compiled loops.

        Args:
            images: uint8 `[n, h, w, C]`.
            boxes: int32 `[n, 4]`, as returned by `boxes`.
            planes: float32 `[n, C, height, width]`. Receives the result, in 0..1.
        """
        cubic = self.interpolation == "bicubic"
        antialias = self.semantics == "torchvision"
        resized_crops(images, boxes, cubic, antialias, planes)

    def pack(self, crop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A crop of any size in one dimension, for batches of `resize_packed`.

        A crop of more bytes than its float32 result is resized here, so that a batch of
        photographs never takes more memory than its views.

        Args:
            crop: uint8 `[h, w, C]`.

        Returns:
            uint8 `[bytes]`, and int32 `[2]`: height and width, or 0 and 0 if resized.
        """
        size, channels = tf.shape(crop)[:2], crop.shape[-1]

        def resized():
            planes = host_function(self._resized_bytes, [crop], tf.uint8, False)
            return tf.ensure_shape(planes, [None]), tf.zeros_like(size)

        result = 4 * channels * math.prod(self.height_width)
        return tf.cond(
            tf.size(crop) > result,
            resized,
            lambda: (tf.reshape(crop, [-1]), size),
        )

    def _resized_bytes(self, crop):
        height, width, channels = crop.shape
        planes = np.empty((1, channels, *self.height_width), np.float32)
        box = np.int32([[0, 0, height, width]])
        self.resize_arrays(crop[None], box, planes)
        return planes.ravel().view(np.uint8)

    def resize_packed(self, values, splits, sizes, planes: np.ndarray) -> None:
        """Resizes crops of `pack` like `resize_arrays`.

        Args:
            values: uint8, the bytes of all crops.
            splits: int64 `[n + 1]`. Where in `values` each crop begins and ends.
            sizes: int32 `[n, 2]`, as returned by `pack`.
            planes: float32 `[n, C, height, width]`. Receives the result, in 0..1.
        """
        cubic = self.interpolation == "bicubic"
        antialias = self.semantics == "torchvision"
        resized_packed(values, splits, sizes, cubic, antialias, planes)

    def augment(self, images, uniforms):
        shape = tf.shape(images)
        boxes = tf.cast(self.boxes(shape[1], shape[2], uniforms), tf.float32)
        top, left, height, width = tf.unstack(boxes, axis=1)
        rows = self._matrices(top, height, shape[1], self.height_width[0])
        columns = self._matrices(left, width, shape[2], self.height_width[1])
        return tf.clip_by_value(resample(images, rows, columns), 0.0, 1.0)

    def _matrices(self, start, length, size, new_size):
        """`[B, new_size, size]`: weights of an axis's pixels in each resized pixel."""
        scale = (length / new_size)[:, None]
        centres = start[:, None] + scale * tf.range(0.5, new_size) - 0.5
        pixels = tf.range(tf.cast(size, tf.float32))
        distances = pixels - centres[:, :, None]
        if self.semantics == "torchvision":
            # Antialiasing: a kernel as wide as the step weights every pixel.
            distances /= tf.maximum(scale, 1.0)[:, :, None]
        inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
        weights = _KERNELS[self.interpolation](distances)
        weights *= tf.cast(inside, tf.float32)[:, None, :]
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "area": self.area,
            "aspect_ratio": self.aspect_ratio,
            "interpolation": self.interpolation,
            "semantics": self.semantics,
        }


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomCrop(ImageAugmentation):
    """Crops a box of one size at a uniformly random place, without resizing it.

    Args:
        size: int or (height, width). Of the box, in pixels, each at least 1.

    Raises:
        ValueError: if an argument is out of its range; when applied, if the images are
            smaller than the box.

    Source: torchvision; mmselfsup 0.x trains on Places205 with it.
    """

    draws = 2

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size) if isinstance(size, (list, tuple)) else size
        self.height_width = _height_width(size)

    def augment(self, images, uniforms):
        images = tf.convert_to_tensor(images)
        known = tuple(images.shape[1:3])
        require(
            None not in known
            and all(
                n >= size for n, size in zip(known, self.height_width, strict=True)
            ),
            f"images must be of a known size, at least {self.height_width}",
            known,
        )
        for axis, (size, crop) in enumerate(zip(known, self.height_width, strict=True)):
            start = tf.cast(whole(uniforms[:, axis], size - crop + 1), tf.int32)
            pixels = start[:, None] + tf.range(crop)
            images = tf.gather(images, pixels, axis=1 + axis, batch_dims=1)
        return images

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _height_width(size) -> tuple:
    """The argument `size`, an int or (height, width), as (height, width)."""
    pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    require(
        len(pair) == 2 and all(map(is_positive_int, pair)),
        "size must be an int or (height, width), each at least 1",
        size,
    )
    return tuple(map(int, pair))


def _cubic(distances: tf.Tensor) -> tf.Tensor:
    """Keys's cubic kernel, a = -0.5."""
    x = tf.abs(distances)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return tf.where(x <= 1.0, near, tf.where(x < 2.0, far, 0.0))


def _triangle(distances: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(distances), 0.0)


_KERNELS = {"bicubic": _cubic, "bilinear": _triangle}
