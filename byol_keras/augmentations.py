"""Augmentations of BYOL as keras-cv layers: exact, per image, reproducible.

A layer here is a pure function of a batch and of uniform numbers, `augment(images,
uniforms)`; `views.py` derives those numbers from seed, pass and image index. The same
layer is also an ordinary keras-cv layer that draws for itself. Every operation has
static shapes, so that it runs in `tf.data`, on accelerators and under XLA alike.

Where the two reference implementations differ, `semantics` chooses: "deepmind"
(deepmind-research, float images) or "torchvision" (mmselfsup 0.x, PIL images).
Deviation: torchvision semantics stay in float; PIL's rounding to uint8 after every
operation, under 1/255 each, is not reproduced.
"""

import itertools
import math
from collections.abc import Iterator

import gin
import keras
import keras_cv
import tensorflow as tf

SEMANTICS = ("deepmind", "torchvision")
# How often torchvision draws a box before it falls back to the centre.
CROP_TRIES = 10
# Row: the places of brightness, contrast, saturation and hue in one image's order.
_PLACES = tuple(itertools.permutations(range(4)))


@keras.saving.register_keras_serializable(package="byol_keras")
class ImageAugmentation(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """Base: an augmentation that is a pure function of images and uniform draws.

    Subclasses set `draws`, how many uniform numbers one image needs, and implement
    `augment`. Called as a layer, it takes float images in 0..1, `[H, W, C]` or
    `[B, H, W, C]`, or a dict of `images` and `labels`, and draws for itself.

    Args:
        seed: int or None. Of the layer's own generator; `augment` does not use it.
            Defaults to None, TensorFlow's global generator.
    """

    draws = 0

    def __init__(self, seed=None, **kwargs):
        # Views are float32 also where the model computes in half precision.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.seed = seed
        if seed is not None:  # keras-cv itself would take seed 0 for no seed
            self._random_generator = tf.random.Generator.from_seed(seed)
        self.built = True  # no variables; keras would warn of an inner layer's

    def augment(self, images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        """Augments every image with its own draws.

        Args:
            images: float32 `[B, H, W, C]` in 0..1. `C` must be known statically.
            uniforms: float32 `[B, draws]` in 0..1, 1 excluded.

        Returns:
            float32 `[B, H, W, C]` in 0..1; a crop changes `H` and `W`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define augment().")

    def call(self, inputs):
        parts = inputs if isinstance(inputs, dict) else {"images": inputs}
        _require(
            {"images"} <= set(parts) <= {"images", "labels", "targets"},
            "inputs must hold images, and besides only labels or targets",
            sorted(parts),
        )
        _require(
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


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomResizedCrop(ImageAugmentation):
    """Crops a box of random area, aspect ratio and place, and resizes it.

    Under "deepmind" one box is drawn and clipped to the image, and resized without
    antialiasing. Under "torchvision" up to 10 boxes are drawn until one fits, then
    the largest centre crop within `aspect_ratio` is taken; the resize antialiases.

    Args:
        size: int or (height, width). Of the result, each at least 1.
        area: (low, high). Share of the image's area, uniform. Within 0..1.
        aspect_ratio: (low, high). Width / height, uniform in its logarithm.
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
        self.height_width = self.size if isinstance(self.size, tuple) else (size, size)
        _require(
            len(self.height_width) == 2
            and all(isinstance(n, int) and n >= 1 for n in self.height_width),
            "size must be an int or (height, width), each at least 1",
            size,
        )
        self.area = _interval("area", area, highest=1.0)
        self.aspect_ratio = _interval("aspect_ratio", aspect_ratio)
        self.interpolation = _one_of("interpolation", interpolation, tuple(_KERNELS))
        self.semantics = _one_of("semantics", semantics, SEMANTICS)

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
            top = _whole(uniforms[:, 2], heights - h + 1.0)
            left = _whole(uniforms[:, 3], widths - w + 1.0)
        else:
            top, left, h, w = self._box_of_tries(heights, widths, uniforms)
        return tf.cast(tf.stack([top, left, h, w], axis=1), tf.int32)

    def _box_sizes(self, heights, widths, area_draws, ratio_draws):
        area = heights * widths * _between(area_draws, *self.area)
        low, high = (math.log(bound) for bound in self.aspect_ratio)
        ratio = tf.exp(_between(ratio_draws, low, high))
        return tf.round(tf.sqrt(area / ratio)), tf.round(tf.sqrt(area * ratio))

    def _box_of_tries(self, heights, widths, uniforms):
        """The first of the tries that fits the image, else the centre."""
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
        top = _whole(uniforms[:, -2], heights - h + 1.0)
        left = _whole(uniforms[:, -1], widths - w + 1.0)
        top = tf.where(found, top, (heights - h) // 2)
        left = tf.where(found, left, (widths - w) // 2)
        return top, left, h, w

    def _centre_size(self, heights, widths):
        low, high = self.aspect_ratio
        h = tf.minimum(heights, tf.maximum(1.0, tf.round(widths / low)))
        w = tf.minimum(widths, tf.maximum(1.0, tf.round(heights * high)))
        return h, w

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes one crop: float32 `[h, w, C]` -> `[height, width, C]`, in 0..1."""
        antialias = self.semantics == "torchvision"
        resized = tf.image.resize(
            image, self.height_width, method=self.interpolation, antialias=antialias
        )
        return tf.clip_by_value(resized, 0.0, 1.0)

    def augment(self, images, uniforms):
        shape = tf.shape(images)
        boxes = tf.cast(self.boxes(shape[1], shape[2], uniforms), tf.float32)
        top, left, height, width = tf.unstack(boxes, axis=1)
        rows = self._matrices(top, height, shape[1], self.height_width[0])
        columns = self._matrices(left, width, shape[2], self.height_width[1])
        return tf.clip_by_value(_resample(images, rows, columns), 0.0, 1.0)

    def _matrices(self, start, length, size, new_size):
        """`[B, new_size, size]`: weights of an axis's pixels in each resized pixel."""
        scale = (length / new_size)[:, None]
        centres = start[:, None] + scale * tf.range(0.5, new_size) - 0.5
        pixels = tf.range(tf.cast(size, tf.float32))
        distances = pixels - centres[:, :, None]
        if self.semantics == "torchvision":
            # Antialiasing: a kernel as wide as the step keeps every pixel counted.
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


class _RandomFlip(ImageAugmentation):
    draws = 1
    axis = None

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = _rate(rate)

    def augment(self, images, uniforms):
        flipped = tf.reverse(images, axis=[self.axis])
        return _choose(uniforms[:, 0] < self.rate, flipped, images)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomHorizontalFlip(_RandomFlip):
    """Mirrors an image left to right with probability `rate` (default 0.5)."""

    axis = 2


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomVerticalFlip(_RandomFlip):
    """Turns an image upside down with probability `rate` (default 0.5)."""

    axis = 1


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class ColorJitter(ImageAugmentation):
    """Shifts brightness, contrast, saturation and hue, each image in its own order.

    A strength `s` means a shift `d` uniform in -s..s, but never below -1:

    | operation  | "deepmind"                 | "torchvision"                 |
    |------------|----------------------------|-------------------------------|
    | brightness | x + d                      | x (1 + d)                     |
    | contrast   | m + (x - m) (1 + d),       | the same,                     |
    |            | m: mean of the channel     | m: mean of the grey image     |
    | saturation | HSV's S times 1 + d        | g + (x - g) (1 + d), g: grey  |
    | hue        | HSV's H + d turns          | the same                      |

    The result of each operation is clipped to 0..1; all 24 orders are equally likely.
    Images with other than 3 channels have brightness and contrast only, and their
    grey image is the mean of the channels.

    Args:
        brightness, contrast, saturation: float. Strengths, at least 0.
        hue: float. Strength in turns, 0..0.5.
        semantics: "deepmind" or "torchvision".

    Raises:
        ValueError: if a strength is out of its range.

    Source: arXiv 2006.07733 appendix B, table 6.
    """

    draws = 5

    def __init__(
        self,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        semantics="deepmind",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        for name, strength in self._strengths().items():
            _require(strength >= 0.0, f"{name} must be at least 0", strength)
        _require(hue <= 0.5, "hue must be at most 0.5 turns", hue)
        self.semantics = _one_of("semantics", semantics, SEMANTICS)

    def augment(self, images, uniforms):
        channels = _channels(images)
        linear, hsv = self._groups(len(channels))
        for group, shifts in _steps(linear, hsv, *self._draw(uniforms)):
            if group is hsv:
                channels = _shift_hsv(channels, **shifts)
            else:
                channels = self._shift_linear(channels, **shifts)
        return tf.stack(channels, axis=-1)

    def _groups(self, channels):
        """Names of the operations that do something: linear ones, those on HSV."""
        linear, hsv = ["brightness", "contrast"], []
        if channels == 3:
            (hsv if self.semantics == "deepmind" else linear).append("saturation")
            hsv.append("hue")
        return tuple(
            [n for n in names if getattr(self, n) > 0] for names in (linear, hsv)
        )

    def _draw(self, uniforms):
        """Shift, and place in the order, of each operation: dicts of `[B]`."""
        shifts = {
            name: _between(uniforms[:, i], -min(strength, 1.0), strength)
            for i, (name, strength) in enumerate(self._strengths().items())
        }
        order = tf.cast(_whole(uniforms[:, 4], len(_PLACES)), tf.int32)
        places = tf.unstack(tf.gather(_PLACES, order), axis=1)
        return shifts, dict(zip(shifts, places, strict=True))

    def _strengths(self):
        names = ("brightness", "contrast", "saturation", "hue")
        return {name: getattr(self, name) for name in names}

    def _shift_linear(self, channels, brightness=0.0, contrast=0.0, saturation=0.0):
        """The three operations as `scale * x + offset`; shifts of 0 change nothing."""
        if self.semantics == "deepmind":
            scale = 1.0 + contrast
            offsets = [brightness - contrast * _mean(x) for x in channels]
        else:
            grey = _grey(channels)
            scale = 1.0 + brightness + contrast + saturation
            offsets = [-contrast * _mean(grey) - saturation * grey] * len(channels)
        return [
            tf.clip_by_value(scale * x + offset, 0.0, 1.0)
            for x, offset in zip(channels, offsets, strict=True)
        ]

    def get_config(self):
        return {
            **super().get_config(),
            **self._strengths(),
            "semantics": self.semantics,
        }


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class Grayscale(ImageAugmentation):
    """Replaces every channel by 0.2989 R + 0.5870 G + 0.1140 B.

    Images with other than 3 channels get the mean of their channels.

    Source: deepmind-research byol; OpenCV's and PIL's weights differ by under 2e-4.
    """

    def augment(self, images, uniforms):
        channels = _channels(images)
        return tf.stack([_grey(channels)] * len(channels), axis=-1)


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class GaussianBlur(ImageAugmentation):
    """Blurs every image by a Gaussian of its own width.

    "deepmind" pads with zeros, which darkens the borders; "torchvision" extends the
    edge pixels.

    Args:
        sigma: (low, high). Standard deviation in pixels, uniform; above 0.
        radius: int or None. The kernel has `2 * radius + 1` taps. None: a twentieth of
            the height (at least 1) under "deepmind", so 11 at 224 and 6 at 128; under
            "torchvision" 4 of the largest sigma.
        semantics: "deepmind" or "torchvision".

    Raises:
        ValueError: if an argument is out of its range.

    Source: deepmind-research byol; arXiv 2006.07733 appendix B.
    Deviation: under "torchvision" PIL approximates the Gaussian by box filters, this
        is the Gaussian.
    """

    draws = 1

    def __init__(self, sigma=(0.1, 2.0), radius=None, semantics="deepmind", **kwargs):
        super().__init__(**kwargs)
        self.sigma = _interval("sigma", sigma)
        _require(
            radius is None or (isinstance(radius, int) and radius >= 1),
            "radius must be None or an int of at least 1",
            radius,
        )
        self.radius = radius
        self.semantics = _one_of("semantics", semantics, SEMANTICS)

    def augment(self, images, uniforms):
        shape = tf.shape(images)
        offsets = self._offsets(shape[1])
        sigma = _between(uniforms[:, 0], *self.sigma)
        taps = tf.exp(-0.5 * tf.square(tf.cast(offsets, tf.float32) / sigma[:, None]))
        taps /= tf.reduce_sum(taps, axis=1, keepdims=True)
        rows = self._matrices(taps, offsets, shape[1])
        columns = self._matrices(taps, offsets, shape[2])
        return tf.clip_by_value(_resample(images, rows, columns), 0.0, 1.0)

    def _offsets(self, height):
        if self.radius is not None:
            radius = self.radius
        elif self.semantics == "deepmind":
            radius = tf.maximum(height // 20, 1)
        else:
            radius = math.ceil(4.0 * self.sigma[1])
        return tf.range(-radius, radius + 1)

    def _matrices(self, taps, offsets, size):
        """`[B, size, size]`: weights of an axis's pixels in each blurred pixel."""
        sources = tf.range(size)[:, None] + offsets
        if self.semantics == "torchvision":
            sources = tf.clip_by_value(sources, 0, size - 1)
        # Sources outside the image have an empty one-hot row: zero padding.
        return tf.einsum("bk,ikj->bij", taps, tf.one_hot(sources, size))

    def get_config(self):
        return {
            **super().get_config(),
            "sigma": self.sigma,
            "radius": self.radius,
            "semantics": self.semantics,
        }


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class Solarize(ImageAugmentation):
    """Inverts the pixels that are not below `threshold`.

    Args:
        threshold: float in 0..1. Defaults to 0.5; mmselfsup 0.x uses 128 / 255.

    Source: arXiv 2006.07733 appendix B.
    """

    def __init__(self, threshold=0.5, **kwargs):
        super().__init__(**kwargs)
        _require(0.0 <= threshold <= 1.0, "threshold must be in 0..1", threshold)
        self.threshold = threshold

    def augment(self, images, uniforms):
        return tf.where(images < self.threshold, images, 1.0 - images)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@gin.register
@keras.saving.register_keras_serializable(package="byol_keras")
class RandomApply(ImageAugmentation):
    """Applies a layer to every image with probability `rate`.

    Args:
        layer: keras layer that keeps the shape of its images. If it is not an
            `ImageAugmentation`, its draws are its own: see `is_stateless`.
        rate: float in 0..1.

    Raises:
        ValueError: if `layer` is no layer or changes the shape, or `rate` is not
            in 0..1.
    """

    def __init__(self, layer, rate, **kwargs):
        super().__init__(**kwargs)
        _require(
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
        _require(
            images.shape.is_compatible_with(augmented.shape),
            f"layer must keep the shape {images.shape}",
            augmented.shape,
        )
        if self.rate == 1.0:
            return augmented
        return _choose(uniforms[:, 0] < self.rate, augmented, images)

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


def _steps(linear: list, hsv: list, shifts: dict, places: dict) -> Iterator:
    """A fixed sequence of steps in which every image meets its own order.

    A branch per image and operation would need dynamic shapes. Instead every HSV
    operation, the costly kind, has one step, with steps for the linear ones before,
    between and after; an image's shift is 0, the identity, where it is not its turn.

    Args:
        linear, hsv: names of operations.
        shifts, places: by name, `[B]`: shift, and place in the image's order.

    Yields:
        `linear` or `hsv`, and the shifts `[B, 1, 1]` of its operations in this step.
    """

    def earlier(name, group):
        return sum(tf.cast(places[n] < places[name], tf.int32) for n in group)

    stride = len(linear) + 1
    turns = {n: stride * earlier(n, hsv) + earlier(n, linear) for n in linear}
    turns |= {n: stride * earlier(n, hsv) + len(linear) for n in hsv}
    for step in range(stride * (len(hsv) + 1) - 1):
        group = hsv if step % stride == len(linear) else linear
        now = {n: tf.where(turns[n] == step, shifts[n], 0.0) for n in group}
        yield group, {n: shift[:, None, None] for n, shift in now.items()}


def _shift_hsv(channels: list, saturation=0.0, hue=0.0) -> list:
    """Scales HSV's S by `1 + saturation` and turns H by `hue`, plane by plane.

    Equal to a way through `tf.image.rgb_to_hsv` and back, at two thirds of its cost.
    """
    red, green, blue = channels
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # The hue in sixths of a turn: 0 red, 2 green, 4 blue.
    sixths = tf.where(
        red >= value,
        tf.math.divide_no_nan(green - blue, chroma),
        tf.where(
            green >= value,
            2.0 + tf.math.divide_no_nan(blue - red, chroma),
            4.0 + tf.math.divide_no_nan(red - green, chroma),
        ),
    )
    sixths = tf.math.floormod(sixths + 6.0 * hue, 6.0)
    chroma = tf.minimum(chroma * (1.0 + saturation), value)
    shares = (
        tf.abs(sixths - 3.0) - 1.0,
        2.0 - tf.abs(sixths - 2.0),
        2.0 - tf.abs(sixths - 4.0),
    )
    return [
        value - chroma * (1.0 - tf.clip_by_value(share, 0.0, 1.0)) for share in shares
    ]


def _grey(channels: list) -> tf.Tensor:
    """`[B, H, W]`: the grey image of a list of `C` planes."""
    if len(channels) == 3:
        red, green, blue = channels
        return 0.2989 * red + 0.5870 * green + 0.1140 * blue
    return tf.add_n(channels) / len(channels)


def _mean(plane: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(plane, axis=(1, 2), keepdims=True)


def _channels(images: tf.Tensor) -> list:
    """`[B, H, W, C]` as `C` planes `[B, H, W]`, on which arithmetic is fastest."""
    _require(
        images.shape[-1] is not None,
        "images must have a known number of channels",
        images.shape,
    )
    return tf.unstack(images, axis=-1)


def _resample(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Matrices `[B, S, H]`, `[B, T, W]` applied to `[B, H, W, C]`: `[B, S, T, C]`."""
    resized_rows = tf.einsum("bsh,bhwc->bswc", rows, images)
    return tf.einsum("btw,bswc->bstc", columns, resized_rows)


def _cubic(distances: tf.Tensor) -> tf.Tensor:
    """Keys's cubic kernel, a = -0.5."""
    x = tf.abs(distances)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return tf.where(x <= 1.0, near, tf.where(x < 2.0, far, 0.0))


def _triangle(distances: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(distances), 0.0)


_KERNELS = {"bicubic": _cubic, "bilinear": _triangle}


def _choose(chosen: tf.Tensor, augmented: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    return tf.where(chosen[:, None, None, None], augmented, images)


def _between(uniforms: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + uniforms * (high - low)


def _whole(uniforms: tf.Tensor, count) -> tf.Tensor:
    """Whole numbers 0..count-1, as float32."""
    return tf.floor(uniforms * count)


def _require(condition: bool, rule: str, value) -> None:
    if not condition:
        raise ValueError(f"{rule}. Received: {value!r}")


def _rate(rate: float) -> float:
    _require(0.0 <= rate <= 1.0, "rate must be in 0..1", rate)
    return rate


def _one_of(name: str, value: str, allowed: tuple) -> str:
    _require(value in allowed, f"{name} must be one of {allowed}", value)
    return value


def _interval(name: str, bounds, highest: float = math.inf) -> tuple:
    _require(
        len(bounds) == 2 and 0.0 < bounds[0] <= bounds[1] <= highest,
        f"{name} must be (low, high) with 0 < low <= high <= {highest}",
        bounds,
    )
    return tuple(bounds)
