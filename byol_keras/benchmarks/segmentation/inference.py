"""Prediction of the class of every pixel, for images of any size."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.segmentation.augmentation import scaled_size
from byol_keras.benchmarks.segmentation.fcn import FCN, resize_bilinear


def predictor(
    model: FCN, scale: Sequence[int], window: Sequence[int] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that predicts the class of each pixel of an image.

    The image is resized to fit `scale`, as in training. The logits are resized back to
    the size of the image.

    Args:
        model: trained `FCN`.
        scale: two ints; see `scaled_size`.
        window: None to predict on whole images; or side and stride of a square window
            that slides over the image. Logits are averaged where windows overlap.

    Returns:
        Function of uint8 `[h, w, 3]` that returns uint8 `[h, w]`.

    Raises:
        ValueError: in the function, if logits are not finite.

    Source: mmsegmentation 0.x, `EncoderDecoder.whole_inference` and `slide_inference`.
    """
    one_window = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32)],
    )

    def predict(image):
        size = image.shape[:2]
        images = resize_bilinear(image[None], scaled_size(size, scale), False) / 255.0
        if window is None:
            logits = one_window(images)
        else:
            logits = _slide(one_window, images, *window)
        if not tf.reduce_all(tf.math.is_finite(logits)):
            raise ValueError(
                "the network's logits must be finite; a lower learning rate may keep "
                "them so. Received: NaN or infinity for a test image"
            )
        logits = resize_bilinear(logits, size, model.align_corners)
        return tf.cast(tf.argmax(logits, axis=-1)[0], tf.uint8).numpy()

    return predict


def _slide(one_window, images, side, stride):
    """Mean logits of windows that cover the image, float32 `[1, H, W, classes]`."""
    height, width = images.shape[1:3]
    total, count = 0.0, np.zeros((1, height, width, 1), np.float32)
    for top in window_starts(height, side, stride):
        for left in window_starts(width, side, stride):
            part = images[:, top : top + side, left : left + side]
            logits = one_window(part)
            bottom, right = top + part.shape[1], left + part.shape[2]
            around = [[0, 0], [top, height - bottom], [left, width - right], [0, 0]]
            total += tf.pad(logits, around)
            count[:, top:bottom, left:right] += 1.0
    return total / count


def window_starts(length: int, side: int, stride: int) -> list[int]:
    """First pixels of the windows that cover a length; the last one ends with it."""
    last = max(length - side, 0)
    return [*range(0, last, stride), last]
