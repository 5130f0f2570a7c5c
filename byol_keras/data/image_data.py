"""`ImageData`: images in a reproducible order, and their decoding.

The constructors are in `data.py`.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from byol_keras.data import decoding
from byol_keras.data.sources import PARALLEL, Rows, Shards, untuned


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images, and labels where there are any, that are read in a reproducible order.

    Args:
        name: str. Where the data come from, for messages and the dry run.
        num_examples: int.
        channels: int. Of every decoded image.
        image_size: `(height, width)` where all images share it, else None.
        class_names: names of the classes, or None for data without labels.
        source: reads the stored examples; made by the constructors in `data.py`.
        names: relative paths of the images, where they are files; in stored order.
    """

    name: str
    num_examples: int
    channels: int
    image_size: tuple[int, int] | None
    class_names: tuple[str, ...] | None
    source: Rows | Shards = dataclasses.field(repr=False)
    names: Sequence[str] | None = dataclasses.field(default=None, repr=False)

    def stream(
        self,
        seed: int,
        start: int = 0,
        pass_length: int | None = None,
        shuffle: bool = True,
    ) -> tf.data.Dataset:
        """Endless passes over the data, each in an order of its own.

        Element `start + i` is a pure function of `(seed, pass, index)`, where
        `pass, index = divmod(start + i, pass_length)`. Hence `stream(seed, start=k)`
        yields what `stream(seed)` yields from its element `k` on.

        Args:
            seed: int. Another seed gives other orders.
            start: int. The first element. Defaults to 0.
            pass_length: int. Elements per pass. Beyond `num_examples`, a pass goes on
                with its own first elements again; below it, the last ones are left
                out. Defaults to `num_examples`.
            shuffle: bool. False keeps the stored order in every pass.

        Returns:
            Dataset of dicts: `"image"`, uint8 `[h, w, channels]` or, where it is still
            encoded, a string scalar; `"pass"` and `"index"`, int64; and `"label"`,
            int64, where there are labels.

        Raises:
            ValueError: if `start` is negative or `pass_length` not positive.
        """
        if pass_length is None:
            pass_length = self.num_examples
        if pass_length < 1:
            raise ValueError(f"pass_length must be positive. Received: {pass_length}")
        if start < 0:
            raise ValueError(f"start must not be negative. Received: {start}")
        dataset = self.source.stream(seed, start, pass_length, shuffle)
        return dataset.with_options(untuned())

    def ordered(self) -> tf.data.Dataset:
        """One pass in stored order, decoded.

        Returns:
            Dataset of `num_examples` dicts: `"image"`, uint8 `[h, w, channels]`, and
            `"label"`, int64, where there are labels.
        """

        def decoded(example):
            return example | {"image": self.decode(example["image"])}

        dataset = self.source.ordered().map(decoded, **PARALLEL)
        return dataset.with_options(untuned())

    def labels(self) -> np.ndarray:
        """Labels in stored order, without decoding images.

        Returns:
            int64 `[N]`; or `[N, classes]` where an image may be of several classes,
            with 1 for the classes that it is of, 0, and -1 for those to be ignored.

        Raises:
            ValueError: for data without labels, or in files too large for memory.
        """
        if self.class_names is None:
            raise ValueError(f"data must have labels. Received: {self.name}")
        if not isinstance(self.source, Rows):
            raise ValueError(
                "data must be small enough for memory where labels are needed at once; "
                f"take a slice of a split instead. Received: {self.name}"
            )
        return self.source.labels()

    def subset(self, places: np.ndarray, name: str) -> "ImageData":
        """The examples at these places, in this order.

        Args:
            places: int64 `[M]`, each in 0..num_examples - 1.
            name: str. Of the new data.

        Raises:
            ValueError: if a place is out of range, there is none, or the data are in
                files too large for memory.
        """
        places = np.asarray(places, np.int64)
        if not len(places) or places.min() < 0 or places.max() >= self.num_examples:
            raise ValueError(
                f"places must be one or more ints in 0..{self.num_examples - 1}. "
                f"Received: {places}"
            )
        if not isinstance(self.source, Rows):
            raise ValueError(
                "data must be small enough for memory to take a subset; take a slice "
                f"of a split instead. Received: {self.name}"
            )
        return dataclasses.replace(
            self,
            name=name,
            num_examples=len(places),
            source=self.source.subset(places),
            names=self.names and [self.names[place] for place in places],
        )

    def digest(self) -> str:
        """Hex digest that changes with the images, their order and their labels.

        Of files it takes path, size and time of change instead of the contents.
        """
        digest = hashlib.sha256()
        kind = (self.num_examples, self.channels, self.image_size, self.class_names)
        for block in (repr(kind).encode(), *self.source.contents()):
            digest.update(hashlib.sha256(block).digest())
        return digest.hexdigest()

    def shape(self, image) -> tf.Tensor:
        """int32 `[3]`: height, width, channels; mostly without decoding the image."""
        if self.image_size is not None:
            return tf.constant([*self.image_size, self.channels])
        image = tf.convert_to_tensor(image)
        if image.dtype == tf.uint8:
            return tf.shape(image)
        return decoding.shape(image, self.channels)

    def decode(self, image) -> tf.Tensor:
        """uint8 `[h, w, channels]` of an image that may be decoded already.

        See `decoding.decode` for what becomes of grey, transparent, animated and very
        large images.
        """
        image = tf.convert_to_tensor(image)
        if image.dtype == tf.uint8:
            return image
        image = decoding.decode(image, self.channels)
        image.set_shape([*(self.image_size or (None, None)), self.channels])
        return image

    def decode_crops(self, image, boxes) -> list[tf.Tensor]:
        """Crops `decode(image)[top : top + height, left : left + width]`.

        Args:
            image: uint8 `[h, w, channels]` or a string scalar; see
                `decoding.decode_crops`.
            boxes: list of int32 `[4]`: top, left, height, width; within the image.

        Returns:
            list of uint8 `[height, width, channels]`.
        """
        image = tf.convert_to_tensor(image)
        boxes = [tf.convert_to_tensor(box, tf.int32) for box in boxes]
        if image.dtype == tf.uint8:
            return [decoding.cut(image, box[:2], box[2:]) for box in boxes]
        crops = decoding.decode_crops(image, boxes, self.channels)
        return [tf.ensure_shape(crop, [None, None, self.channels]) for crop in crops]
