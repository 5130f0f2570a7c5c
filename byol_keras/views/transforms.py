"""Deterministic test-time preprocessing: resize and center crop."""

import gin
import tensorflow as tf

from byol_keras.data.decoding import to_float


@gin.register(module="byol_keras")
def resize_center_crop(
    image: tf.Tensor, size: int = 224, resize: int = 256, interpolation="bilinear"
) -> tf.Tensor:
    """Resizes the short side to `resize`, then crops the central `size` x `size`.

    Args:
        image: uint8 `[h, w, C]`.
        size, resize: int. Pixels.
        interpolation: "bilinear" or "bicubic", antialiased like PIL.

    Returns:
        float32 `[size, size, C]` in 0..1.

    Raises:
        ValueError: if `size` is not within 1 and `resize`.

    Source: mmselfsup 0.x, evaluation pipelines of its benchmarks.
    Deviation: pixels stay in float after the resize; Pillow rounds them to uint8.
    """
    if not 1 <= size <= resize:
        raise ValueError(f"size must be within 1 and resize={resize}. Received: {size}")
    short = tf.cast(tf.reduce_min(tf.shape(image)[:2]), tf.float32)
    scaled = tf.cast(tf.shape(image)[:2], tf.float32) * (resize / short)
    height_width = tf.maximum(tf.cast(tf.math.floor(scaled + 1e-4), tf.int32), resize)
    image = _resize(image, height_width, interpolation, antialias=True)
    # Half pixels are rounded to even, like Python's `round` in torchvision.
    margin = tf.cast(height_width - size, tf.float32) / 2.0
    top, left = tf.unstack(tf.cast(tf.round(margin), tf.int32))
    return tf.ensure_shape(
        image[top : top + size, left : left + size], [size, size, image.shape[-1]]
    )


@gin.register(module="byol_keras")
def resize_square(image: tf.Tensor, size: int = 224, resize: int = 256) -> tf.Tensor:
    """Resizes the short side to `resize`, then both sides to `size`, without cropping.

    Args:
        image: uint8 `[h, w, C]`.
        size, resize: int. Pixels.

    Returns:
        float32 `[size, size, C]` in 0..1; bilinear, antialiased like PIL.

    Raises:
        ValueError: if `size` or `resize` is not positive.

    Source: mmselfsup 0.x, svm_voc07.py.
    Deviation: pixels stay in float after each resize; Pillow rounds them to uint8.
    """
    for name, pixels in (("size", size), ("resize", resize)):
        if pixels < 1:
            raise ValueError(f"{name} must be positive. Received: {pixels}")
    sides = tf.shape(image)[:2]
    # Like torchvision, round the long side down.
    short_to_resize = sides * resize // tf.reduce_min(sides)
    image = to_float(image)
    for height_width in (short_to_resize, (size, size)):
        image = tf.image.resize(image, height_width, "bilinear", antialias=True)
    return image


@gin.register(module="byol_keras")
def deepmind_center_crop(image: tf.Tensor, size: int = 224) -> tf.Tensor:
    """Crops the central square of 7/8 of the short side, and resizes it.

    Args:
        image: uint8 `[h, w, C]`.
        size: int. Pixels.

    Returns:
        float32 `[size, size, C]` in 0..1; bicubic without antialiasing.

    Source: DeepMind's `byol/utils/dataset.py`.
    """
    side, top, left = deepmind_crop_box(*tf.unstack(tf.shape(image)[:2]), size)
    crop = image[top : top + side, left : left + side]
    return _resize(crop, (size, size), "bicubic", antialias=False)


def deepmind_crop_box(height, width, size: int = 224):
    """Side, top and left of DeepMind's central crop, int32 scalars."""
    short = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(size / (size + 32) * short, tf.int32)
    return side, (height - side + 1) // 2, (width - side + 1) // 2


def _resize(image, height_width, interpolation, antialias):
    image = tf.image.resize(
        to_float(image),
        height_width,
        method=interpolation,
        antialias=antialias,
    )
    return tf.clip_by_value(image, 0.0, 1.0)
