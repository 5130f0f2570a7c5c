"""Images with annotated objects: the common form of all detection datasets."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from byol_keras.data.orientation import upright_size
from byol_keras.data.sources import file_stamps

# Rounding in the files moves edges beyond the image by less than this.
_ROUNDING = 0.5


class Annotated(NamedTuple):
    """An image file and its `n` annotated objects.

    Args:
        image_path: str.
        height, width: int. Of the image in pixels, after turning by `orientation`.
        image_id: id in the dataset, a str in VOC and an int in COCO.
        boxes: float32 `[n, 4]`: ymin, xmin, ymax, xmax in pixels. These are edges: a
            box of the whole image is `(0, 0, height, width)`.
        labels: int64 `[n]` from 0.
        difficult: bool `[n]`. Whether evaluation ignores the object: VOC's difficult
            objects, COCO's crowds.
        masks: list of `n` masks in COCO's codes, None for objects without one. Or None,
            for data without masks.
        listed_boxes: float64 `[n, 4]`: the boxes as the file lists them, also beyond
            the image, which evaluation uses. None if they equal `boxes`.
        lost: labels of objects to find whose boxes have no area in the image.
            Evaluation counts them as not found.
        orientation: int in 1..8. How the image of the file is turned; see
            `agreed_size`.
    """

    image_path: str
    height: int
    width: int
    image_id: str | int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    masks: list | None
    listed_boxes: np.ndarray | None = None
    lost: tuple[int, ...] = ()
    orientation: int = 1

    @property
    def true_boxes(self) -> np.ndarray:
        """The boxes for evaluation, `[n, 4]`."""
        return self.boxes if self.listed_boxes is None else self.listed_boxes


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionData:
    """A split of a detection dataset.

    Args:
        name: str. For messages.
        class_names: names of the classes, by label.
        examples: list of `Annotated`, in the order of the list or file.
        bad: one line for each annotation that was repaired or left out.
        category_ids: COCO's category ids by label, or None.
        trains_difficult: bool. Whether training uses difficult objects.
    """

    name: str
    class_names: tuple[str, ...]
    examples: list[Annotated]
    bad: list[str]
    category_ids: tuple[int, ...] | None = None
    trains_difficult: bool = False

    def by_id(self) -> list[int]:
        """Places of the examples in the order of their ids, in which equal scores rank.

        So a metric does not depend on the order of the list or file.
        """

        def key(place):
            image_id = self.examples[place].image_id
            return isinstance(image_id, str), image_id

        return sorted(range(len(self.examples)), key=key)

    def digest(self) -> str:
        """Hex digest that changes with the files, their order and their annotations."""
        kind = (self.class_names, self.category_ids, self.trains_difficult)
        digest = hashlib.sha256(repr(kind).encode())
        for example in self.examples:
            parts = (example.height, example.width, example.image_id, example.masks)
            digest.update(repr(parts).encode())
            if example.orientation != 1:
                digest.update(repr(example.orientation).encode())
            for array in (example.boxes, example.labels, example.difficult):
                digest.update(array.tobytes())
            if example.lost or not np.array_equal(
                np.float32(example.true_boxes), example.boxes
            ):
                digest.update(repr(example.lost).encode())
                digest.update(example.true_boxes.tobytes())
        for stamp in file_stamps(example.image_path for example in self.examples):
            digest.update(stamp)
        return digest.hexdigest()


class FileSize(NamedTuple):
    """The size of an image file.

    Args:
        height, width: int. As stored.
        orientation: int in 1..8, by EXIF.
    """

    height: int
    width: int
    orientation: int = 1


def agreed_size(annotated: Sequence, file: FileSize) -> tuple[int, int, int]:
    """Height and width of an image by its annotation and its file, and how to turn it.

    Annotations are of the upright image, which detectron2 and mmdetection read, or of
    the stored one. The annotated size decides. If it fits both, as for a square, or
    is not known, the image is turned upright.

    Args:
        annotated: height and width. One that is None, 0 or no number is not known.
        file: of the file.

    Returns:
        Height, width and the orientation to turn the image by, 1 for none.

    Raises:
        ValueError: if the annotation fits neither size.
    """
    stored = (file.height, file.width)
    for orientation in dict.fromkeys((file.orientation, 1)):
        size = upright_size(stored, orientation)
        if tuple(map(_known_side, annotated, size)) == size:
            return *size, orientation
    size = tuple(map(_known_side, annotated, stored))
    raise ValueError(
        f"the annotation is of {size[1]} x {size[0]} pixels, the file of "
        f"{file.width} x {file.height}"
    )


def _known_side(annotated, of_file):
    try:
        number = float(annotated)
    except (TypeError, ValueError):
        return of_file
    return int(number) if math.isfinite(number) and number >= 1 else of_file


def clipped_box(
    box: tuple[float, ...], height: int, width: int, where: str, bad: list[str]
) -> Sequence[float]:
    """The part of a box within the image.

    Args:
        box: ymin, xmin, ymax, xmax in pixels.
        height, width: int. Of the image.
        where: str. Name of the box in messages.
        bad: list that gets a line if the box was clipped by more than rounding.

    Raises:
        ValueError: if the box and the image do not overlap, or an edge is not finite.
    """
    if 0 <= box[0] < box[2] <= height and 0 <= box[1] < box[3] <= width:
        return box
    if not all(math.isfinite(edge) for edge in box):
        raise ValueError("a box with an edge that is not finite")
    limits = (height, width, height, width)
    clipped = [
        min(max(edge, 0), limit) for edge, limit in zip(box, limits, strict=True)
    ]
    ymin, xmin, ymax, xmax = clipped
    if ymax <= ymin or xmax <= xmin:
        raise ValueError("a box without area in the image")
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > _ROUNDING:
        bad.append(f"{where}: clipped, a box beyond the image")
    return clipped


def object_arrays(boxes, labels, difficult) -> tuple[np.ndarray, ...]:
    """Arrays for `Annotated` from lists of `n` boxes, labels and flags."""
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
    )
