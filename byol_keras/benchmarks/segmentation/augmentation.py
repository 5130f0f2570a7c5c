"""Augmented images and masks for training: resize, crop, flip, color distortion.

All random draws are pure functions of the seed, the pass and the place in the pass.
"""

import dataclasses
from collections.abc import Sequence

import gin
import tensorflow as tf

from byol_keras.benchmarks.segmentation.dataset import SegmentationData
from byol_keras.benchmarks.segmentation.fcn import resize_bilinear
from byol_keras.benchmarks.segmentation.metrics import IGNORED
from byol_keras.views.pipeline import reproducible, uniforms_of

# Uniform numbers of an image: ratio, flip, nine photometric ones, and two per crop.
_PHOTOMETRIC = slice(2, 11)
_CROPS = 11
_BYTE = 255.0
# Steps of OpenCV's hue in a full turn.
_HUES = 180


@gin.register(module="byol_keras")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationView:
    """Turns images of any size and their masks into training examples of one size.

    The steps are resize, crop, flip, photometric distortion and padding, in this order.
    The defaults are published.

    Args:
        scale: two ints. An image is resized so that its longer side fits the larger
            number and its shorter side the smaller one; see `scaled_size`.
        ratios: two floats. `scale` is multiplied by a number drawn between them.
        crop_size: int. Side of the square crop. A smaller image is padded on the right
            and at the bottom, with label 255.
        max_class_share: float in 0..1. A crop is redrawn while one class has at least
            this share of its labeled pixels.
        crop_retries: int. Largest number of redrawn crops.
        flip_rate: float in 0..1. Probability of a horizontal flip.
        brightness: float. Largest shift of pixels, out of 255.
        contrast, saturation: two floats each. Range of the factor of pixels, and of
            HSV's S.
        hue: int. Largest shift of HSV's H, in 1 / 180 turns. Brightness, contrast,
            saturation and hue are each changed with probability 0.5, contrast before or
            after the other two.
        padding: one number per channel, in 0..1. Color of padded pixels, which is 0
            after the published normalization.

    Raises:
        ValueError: if a number is out of its range.

    Source: mmsegmentation 0.x, `datasets/pipelines/transforms.py`.
    Deviation: colors are not rounded to bytes between the steps.
    """

    scale: Sequence[int] = (2048, 512)
    ratios: Sequence[float] = (0.5, 2.0)
    crop_size: int = 512
    max_class_share: float = 0.75
    crop_retries: int = 10
    flip_rate: float = 0.5
    brightness: float = 32.0
    contrast: Sequence[float] = (0.5, 1.5)
    saturation: Sequence[float] = (0.5, 1.5)
    hue: int = 18
    padding: Sequence[float] = (0.485, 0.456, 0.406)

    def __post_init__(self):
        for name in ("scale", "ratios", "contrast", "saturation"):
            low, high = sorted(getattr(self, name))
            _require(low > 0 and high > 0, name, "two positive numbers", (low, high))
        _require(self.crop_size > 0, "crop_size", "positive", self.crop_size)
        for name in ("max_class_share", "flip_rate"):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, name, "in 0..1", value)
        for name in ("crop_retries", "brightness", "hue"):
            value = getattr(self, name)
            _require(value >= 0, name, "at least 0", value)

    @property
    def draws(self) -> int:
        """Number of uniform draws per image."""
        return _CROPS + 2 * (self.crop_retries + 1)

    def dataset(
        self, data: SegmentationData, batch_size: int, seed: int, start: int = 0
    ) -> tf.data.Dataset:
        """Endless batches, reshuffled for every pass over the data.

        Args:
            data: `SegmentationData` without bad masks.
            batch_size: int. A batch can span two passes.
            seed: int. Of the order and of all draws.
            start: int. Number of images that an earlier process has consumed.

        Returns:
            Dataset of images, float32 `[B, S, S, 3]` in 0..1, and masks, uint8
            `[B, S, S]`.
        """

        def prepare(example):
            uniforms = uniforms_of(example, seed, self.draws)
            return self.augment(example["image"], example["mask"], uniforms)

        rows = data.rows()
        return (
            rows.stream(seed, start, pass_length=rows.num_examples, shuffle=True)
            .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(reproducible())
        )

    def augment(self, image, mask, uniforms):
        """The training example of one image.

        Args:
            image: uint8 `[h, w, 3]`.
            mask: uint8 `[h, w]`: class, or 255.
            uniforms: float32 `[draws]`, at least 0 and below 1.

        Returns:
            float32 `[S, S, 3]` in 0..1 and uint8 `[S, S]`.
        """
        image, mask = self.resize(image, mask, uniforms[0])
        image, mask = self.crop(image, mask, uniforms[_CROPS:])
        if_flipped = uniforms[1] < self.flip_rate
        image = tf.cond(if_flipped, lambda: image[:, ::-1], lambda: image)
        mask = tf.cond(if_flipped, lambda: mask[:, ::-1], lambda: mask)
        image = self.distort(image / _BYTE, uniforms[_PHOTOMETRIC])
        return self.pad(image, mask)

    def resize(self, image, mask, uniform):
        """Resizes image (to float32 in 0..255) and mask to a random scale."""
        low, high = self.ratios
        ratio = tf.cast(low + uniform * (high - low), tf.float64)
        size = scaled_size(tf.shape(mask), tf.floor(ratio * self.scale))
        resized = resize_bilinear(image[None], size, align_corners=False)[0]
        # OpenCV reads the label at the floor of the position, not at its center.
        nearest = tf.raw_ops.ResizeNearestNeighbor(
            images=mask[None, ..., None], size=size
        )
        return resized, nearest[0, ..., 0]

    def crop(self, image, mask, uniforms):
        """The first drawn crop that no class dominates, or else the last one."""
        size = self.crop_size
        offsets = tf.reshape(uniforms, (self.crop_retries + 1, 2))
        free = tf.maximum(tf.shape(mask) - size, 0) + 1
        corners = tf.cast(offsets * tf.cast(free, tf.float32), tf.int32)

        def cut(pixels, place):
            y, x = tf.unstack(corners[place])
            return pixels[y : y + size, x : x + size]

        place = tf.while_loop(
            lambda place: (
                (place < self.crop_retries) & ~self._is_mixed(cut(mask, place))
            ),
            lambda place: [place + 1],
            [tf.constant(0)],
        )[0]
        return cut(image, place), cut(mask, place)

    def _is_mixed(self, mask):
        """Whether a mask has at least two classes and none of them dominates."""
        counts = tf.math.bincount(tf.cast(mask, tf.int32), minlength=IGNORED + 1)
        counts = tf.cast(counts[:IGNORED], tf.float32)
        largest = tf.reduce_max(counts)
        few = largest < self.max_class_share * tf.reduce_sum(counts)
        return few & (tf.math.count_nonzero(counts) > 1)

    def distort(self, image, uniforms):
        """Photometric distortion of an image, float32 in 0..1."""
        changed = uniforms[:4] < 0.5
        contrast_last = uniforms[4] < 0.5
        shift = self.brightness / _BYTE * (2.0 * uniforms[5] - 1.0)
        image = _clipped(tf.where(changed[0], image + shift, image))
        contrast = tf.where(changed[1], _between(uniforms[6], self.contrast), 1.0)
        image = _clipped(image * tf.where(contrast_last, 1.0, contrast))
        saturation = tf.where(changed[2], _between(uniforms[7], self.saturation), 1.0)
        hue = tf.floor(2.0 * self.hue * uniforms[8]) - self.hue
        hue = tf.where(changed[3], hue / _HUES, 0.0)
        image = tf.cond(
            changed[2] | changed[3],
            lambda: tf.image.adjust_hue(
                tf.image.adjust_saturation(image, saturation), hue
            ),
            lambda: image,
        )
        return _clipped(image * tf.where(contrast_last, contrast, 1.0))

    def pad(self, image, mask):
        """Pads image and mask on the right and at the bottom to the crop's size."""
        lacking = self.crop_size - tf.shape(mask)
        after = tf.stack([tf.zeros(2, tf.int32), lacking], axis=1)
        padding = tf.constant(self.padding, tf.float32)
        # Zeros around the shifted image are the padding color after shifting back.
        image = tf.pad(image - padding, tf.pad(after, [[0, 1], [0, 0]])) + padding
        mask = tf.pad(mask, after, constant_values=IGNORED)
        size = (self.crop_size, self.crop_size)
        return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(mask, size)


def scaled_size(size, scale) -> tf.Tensor:
    """Height and width, int32 `[2]`, of an image resized to fit a scale.

    The aspect ratio is kept. The longer side is at most the larger number of the scale,
    the shorter side at most the smaller one, and one of the two limits is reached.

    Args:
        size: `[2]`: height and width.
        scale: `[2]`, in any order.

    Source: mmcv 1.x, `imrescale`.
    """
    size, scale = tf.cast(size, tf.float64), tf.cast(scale, tf.float64)
    factor = tf.minimum(
        tf.reduce_max(scale) / tf.reduce_max(size),
        tf.reduce_min(scale) / tf.reduce_min(size),
    )
    return tf.cast(size * factor + 0.5, tf.int32)


def _between(uniform, bounds):
    low, high = bounds
    return low + uniform * (high - low)


def _clipped(image):
    return tf.clip_by_value(image, 0.0, 1.0)


def _require(holds, argument, rule, received):
    if not holds:
        raise ValueError(
            f"SegmentationView.{argument} must be {rule}. Received: {received!r}"
        )
