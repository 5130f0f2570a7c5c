"""`ImageData`: images in a reproducible order, and their decoding.

`image_folder`, `arrays`, `tfds` and `published` construct it.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from byol_keras.data import decoding
from byol_keras.data.sources import PARALLEL, IndexedSource, Share, Source, untuned
from byol_keras.data.unreadable import UnreadableFile, note_left_out


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images, and labels where there are any, in a reproducible order.

    Args:
        name: str. Origin of the data, for messages and the dry run.
        num_examples: int.
        channels: int. Of every decoded image.
        image_size: `(height, width)` where all images share it, else None.
        class_names: names of the classes, or None for data without labels.
        source: reads the stored examples.
        names: relative paths of the images in stored order, where they are files.
    """

    name: str
    num_examples: int
    channels: int
    image_size: tuple[int, int] | None
    class_names: tuple[str, ...] | None
    source: Source = dataclasses.field(repr=False)
    names: Sequence[str] | None = dataclasses.field(default=None, repr=False)

    def stream(
        self,
        seed: int,
        start: int = 0,
        pass_length: int | None = None,
        shuffle: bool = True,
    ) -> tf.data.Dataset:
        """Endless passes over the data, each in its own order.

        Element `start + i` is a pure function of `(seed, pass, index)`, where
        `pass, index = divmod(start + i, pass_length)`. Hence `stream(seed, start=k)`
        yields what `stream(seed)` yields from its element `k` on.

        Args:
            seed: int. Another seed gives other orders.
            start: int. The first element. Defaults to 0.
            pass_length: int. Elements per pass. A pass longer than `num_examples`
                repeats its own first elements; a shorter one omits the last ones.
                Defaults to `num_examples`.
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
        """One pass in stored order, decoded, without unreadable images.

        Returns:
            Dataset of dicts: `"image"`, uint8 `[h, w, channels]`, and `"label"`, int64,
            where there are labels.
        """

        def decoded(example):
            return example | {"image": self.decode(example["image"])}

        dataset = self.source.ordered().map(decoded, **PARALLEL)
        return dataset.with_options(untuned())

    def labels(self) -> np.ndarray:
        """Labels of the images of `ordered()`, in the same order.

        Where images are files, those that were not read yet are examined.

        Returns:
            int64 `[N]`; or `[N, classes]` where an image may have several classes: 1
            for the classes of the image, 0 for others, and -1 for classes to ignore.

        Raises:
            ValueError: for data without labels, or in files too large for memory.
        """
        labels = self.stored_labels()
        places = self.source.readable_places()
        note_left_out(self.name, self.num_examples - len(places))
        return labels[places]

    def stored_labels(self) -> np.ndarray:
        """As `labels()`, but of all `num_examples` images, of which none is examined.

        The places of `subset` are places in these labels.
        """
        if self.class_names is None:
            raise ValueError(f"data must have labels. Received: {self.name}")
        return self._indexed("where labels are needed at once").labels()

    def readable(self) -> "ImageData":
        """The same data without unreadable images, for evaluation.

        Where images are files, those that were not read yet are examined.

        Returns:
            A subset; the data themselves if all images are readable.

        Raises:
            TooManyBadImages: if more images are unreadable than `max_bad_share` allows.
        """
        if not isinstance(self.source, IndexedSource):
            return self
        places = self.source.readable_places()
        note_left_out(self.name, self.num_examples - len(places))
        if len(places) == self.num_examples:
            return self
        return self.subset(places, self.name)

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
        return dataclasses.replace(
            self,
            name=name,
            num_examples=len(places),
            source=self._indexed("to take a subset").subset(places),
            names=self.names and [self.names[place] for place in places],
        )

    def share(self, batch_size: int, workers: int, worker: int) -> "ImageData":
        """The examples that one of several workers trains on; see `sources.Share`."""
        source = Share(self.source, batch_size, workers, worker)
        return dataclasses.replace(self, source=source)

    def places(
        self, seed: int, start: int, pass_length: int, count: int
    ) -> list[int] | None:
        """Places in stored order of elements of `stream(seed, start, pass_length)`.

        Returns:
            `count` ints; None for data in files too large for memory.
        """
        if not isinstance(self.source, IndexedSource):
            return None
        return self.source.places(seed, start, pass_length, count)

    def unreadable(
        self, start: int = 0, stop: int | None = None
    ) -> list[UnreadableFile]:
        """The image files that were found unreadable so far, in stored order.

        Args:
            start: int. The first place to report on. Defaults to 0.
            stop: int or None. The place after the last one. Defaults to the end.
        """
        stop = self.num_examples if stop is None else stop
        return self.source.unreadable(start, stop)

    def digest(self) -> str:
        """Hex digest that changes with the images, their order and their labels.

        Files count with name, size and modification time instead of their contents.
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

        See `decoding.decode` on grey, transparent, animated and very large images.
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

    def _indexed(self, purpose: str) -> IndexedSource:
        if not isinstance(self.source, IndexedSource):
            raise ValueError(
                f"data must be small enough for memory {purpose}; take a slice of a "
                f"split instead. Received: {self.name}"
            )
        return self.source
