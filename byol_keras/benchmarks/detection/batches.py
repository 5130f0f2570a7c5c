"""Batches of fixed shapes with images, boxes and masks, for a detector."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.detection.masks import cropped_mask
from byol_keras.data.decoding import to_float
from byol_keras.data.orientation import turned
from byol_keras.data.sources import PARALLEL, Rows
from byol_keras.runtime.host_calls import host_function
from byol_keras.views.pipeline import reproducible, uniforms_of

# Multi-scale training of the published detection protocols.
SHORT_SIDES = tuple(range(480, 801, 32))


def training_batches(
    data,
    batch_size: int,
    image_size: tuple[int, int] = (1344, 1344),
    short_sides: Sequence[int] = SHORT_SIDES,
    max_long_side: int = 1333,
    flip: bool = True,
    seed: int = 0,
    start: int = 0,
    max_boxes: int = 100,
    mask_size: int | None = None,
    padding_color: Sequence[float] = (0.0, 0.0, 0.0),
) -> tf.data.Dataset:
    """Endless batches for training: shuffled images of random size, randomly flipped.

    Images without an object to train on are left out, as in both references.

    Args:
        data: `examples.DetectionData`.
        batch_size: int. Images per batch.
        image_size: `(H, W)` of the canvas. An image is placed at its top left, and is
            resized to fit if it would be larger.
        short_sides: ints. The shorter side of each image is drawn from them.
        max_long_side: int. Limit of the longer side.
        flip: bool. Whether images are flipped horizontally with probability 0.5.
        seed: int. The order and all draws are functions of `(seed, pass, index)`.
        start: int. Number of images that an earlier process has consumed.
        max_boxes: int, M. Largest number of objects per image; the rest are left out.
        mask_size: int. Side of the masks; None leaves masks out.
        padding_color: three floats in 0..1. Color of the canvas around the image. The
            references pad with the mean color, which is 0 after normalization.

    Returns:
        `tf.data.Dataset` of dicts:
        `image`: float32 `[B, H, W, 3]` in 0..1;
        `image_info`: float32 `[B, 4, 2]`, as in the Model Garden: height and width of
        the file, those of the image on the canvas, their ratio (scale), and 0 (offset);
        `boxes`: float32 `[B, M, 4]`, ymin, xmin, ymax, xmax in pixels of the canvas,
        padded with -1; `classes`: int32 `[B, M]`, label + 1, padded with -1;
        `key`: int64 `[B, 2]`, seed of all other random choices for the image;
        `masks`: float32 `[B, M, mask_size, mask_size]`, 0 or 1, each the part of the
        mask within its box, padded with -1; -1 also for objects without a mask.

    Raises:
        ValueError: if `short_sides` is empty, no image has an object to train on, or
            `mask_size` is set for data without masks.
    """
    if not short_sides:
        raise ValueError(f"short_sides must not be empty. Received: {short_sides!r}")
    objects = _Objects(data, max_boxes, mask_size)
    with tf.device("CPU"):
        sides = tf.constant(short_sides, tf.float32)

    def prepare(element):
        draws = uniforms_of(element, seed, 2)
        side = sides[tf.cast(draws[0] * len(short_sides), tf.int32)]
        image = decode_image(element["image"], element["orientation"])
        boxes = element["boxes"]
        mirrored = tf.logical_and(flip, draws[1] < 0.5)
        width = tf.cast(tf.shape(image)[1], tf.float32)
        image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
        boxes = tf.where(mirrored, _mirror(boxes, width), boxes)
        image, info = _on_canvas(image, side, max_long_side, image_size, padding_color)
        batch = {
            "key": _key(element, seed),
            "image": image,
            "image_info": info,
            "boxes": _padded(boxes * tf.tile(info[2], [2]), max_boxes),
            "classes": _padded(element["classes"], max_boxes),
        }
        if mask_size:
            masks = element["masks"]
            masks = tf.cond(mirrored, lambda: masks[..., ::-1], lambda: masks)
            batch["masks"] = _padded(masks, max_boxes)
        return batch

    rows = Rows(len(objects.paths), objects.fetch, contents=tuple)
    return (
        rows.stream(seed, start, pass_length=len(objects.paths), shuffle=True)
        .map(prepare, **PARALLEL)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(reproducible())
    )


def test_batches(
    data,
    batch_size: int = 1,
    image_size: tuple[int, int] = (1344, 1344),
    short_side: int = 800,
    max_long_side: int = 1333,
    padding_color: Sequence[float] = (0.0, 0.0, 0.0),
) -> tf.data.Dataset:
    """Batches of all images once, in their order; see `training_batches`.

    Returns:
        `tf.data.Dataset` of dicts: `image` and `image_info` as in `training_batches`,
        and `place`: int64 `[B]`, the index in `data.examples`, or -1 for images that
        fill the last batch. `original_boxes` converts detections to pixels of the file.
    """
    count = len(data.examples)
    paths = tf.constant([example.image_path for example in data.examples])
    orientations = tf.constant([example.orientation for example in data.examples])

    def prepare(number):
        index = tf.minimum(number, count - 1)
        image = decode_image(tf.io.read_file(paths[index]), orientations[index])
        image, info = _on_canvas(
            image, short_side, max_long_side, image_size, padding_color
        )
        place = tf.where(number < count, number, -1)
        return {"image": image, "image_info": info, "place": place}

    return (
        tf.data.Dataset.range(-(-count // batch_size) * batch_size)
        .map(prepare, **PARALLEL)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(reproducible())
    )


def original_boxes(boxes: np.ndarray, image_info: np.ndarray) -> np.ndarray:
    """Boxes in pixels of the image file from boxes on the canvas, clipped to the image.

    Args:
        boxes: `[m, 4]`: ymin, xmin, ymax, xmax in pixels of the canvas.
        image_info: `[4, 2]`, of the image; see `training_batches`.

    Returns:
        float32 `[m, 4]`.
    """
    image_info = np.asarray(image_info, np.float32)
    size, scale = np.tile(image_info[0], 2), np.tile(image_info[2], 2)
    return np.clip(np.asarray(boxes, np.float32) / scale, 0, size)


class _Objects:
    """Paths of the training images, and the objects in them."""

    def __init__(self, data, max_boxes, mask_size):
        if mask_size and any(example.masks is None for example in data.examples):
            raise ValueError(
                "mask_size must be None for data without masks. "
                f"Received: {mask_size}, for {data.name}"
            )
        chosen = [
            np.flatnonzero(~x.difficult | data.trains_difficult)[:max_boxes]
            for x in data.examples
        ]
        kept = [
            (x, objects)
            for x, objects in zip(data.examples, chosen, strict=True)
            if len(objects)
        ]
        if not kept:
            raise ValueError(
                f"data must contain an object to train on. Received: {data.name}"
            )
        self.paths = [example.image_path for example, _ in kept]
        self.kept, self.mask_size = kept, mask_size
        with tf.device("CPU"):
            self._paths = tf.constant(self.paths)
            self._orientations = tf.constant([x.orientation for x, _ in kept])
            self._stops = tf.constant(np.cumsum([len(objects) for _, objects in kept]))
            self._boxes = tf.constant(np.concatenate([x.boxes[o] for x, o in kept]))
            labels = np.concatenate([x.labels[o] for x, o in kept])
            self._classes = tf.constant(labels + 1, tf.int32)

    def fetch(self, place):
        """Encoded image, orientation, boxes, classes and masks of one example."""
        start = tf.where(place > 0, self._stops[tf.maximum(place - 1, 0)], 0)
        stop = self._stops[place]
        example = {
            "image": tf.io.read_file(self._paths[place]),
            "orientation": self._orientations[place],
            "boxes": self._boxes[start:stop],
            "classes": self._classes[start:stop],
        }
        if self.mask_size:
            masks = host_function(self._masks, [place], tf.float32, stateful=False)
            example["masks"] = tf.ensure_shape(
                masks, [None, self.mask_size, self.mask_size]
            )
        return example

    def _masks(self, place):
        example, objects = self.kept[place]
        masks = np.full((len(objects), self.mask_size, self.mask_size), -1, np.float32)
        for mask, o in zip(masks, objects, strict=True):
            if example.masks[o] is not None:
                mask[:] = cropped_mask(
                    example.masks[o], example.boxes[o], self.mask_size
                )
        return masks


def _key(element, seed):
    """Seed of an image in its pass, independent of the draws for its augmentation."""
    key = tf.constant([seed, 1], tf.int64)
    for number in (element["pass"], element["index"]):
        key = tf.random.experimental.stateless_fold_in(key, number)
    return key


def decode_image(encoded, orientation=1) -> tf.Tensor:
    """Pixels of a file, uint8 `[h, w, 3]`; missing parts of a JPEG are gray.

    Args:
        encoded: string scalar.
        orientation: int32 scalar in 1..8; see `Annotated`.
    """
    image = tf.io.decode_jpeg(
        encoded, channels=3, try_recover_truncated=True, acceptable_fraction=0.0
    )
    return turned(image, orientation)


def _mirror(boxes, width):
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    return tf.stack([ymin, width - xmax, ymax, width - xmin], axis=-1)


def _on_canvas(image, short_side, max_long_side, canvas, color):
    """Resizes an image and places it on the canvas; also returns its `image_info`."""
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.reduce_min(
        [
            short_side / tf.reduce_min(size),
            max_long_side / tf.reduce_max(size),
            canvas[0] / size[0],
            canvas[1] / size[1],
        ]
    )
    scaled = tf.maximum(tf.round(size * scale), 1.0)
    height, width = tf.unstack(tf.cast(scaled, tf.int32))
    # Bilinear without antialiasing, as the references resize.
    image = tf.image.resize(to_float(image), [height, width])
    color = tf.constant(color, tf.float32)
    image = tf.image.pad_to_bounding_box(image - color, 0, 0, *canvas) + color
    info = tf.stack([size, scaled, scaled / size, tf.zeros(2)])
    return tf.clip_by_value(image, 0.0, 1.0), info


def _padded(values, length):
    """Pads `[n, ...]` with -1 to `[length, ...]`."""
    missing = [[0, length - tf.shape(values)[0]]] + [[0, 0]] * (values.shape.rank - 1)
    values = tf.pad(values, missing, constant_values=tf.constant(-1, values.dtype))
    return tf.ensure_shape(values, [length, *values.shape[1:]])
