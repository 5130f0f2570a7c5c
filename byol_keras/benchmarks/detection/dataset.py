"""Detection datasets, read in the published layouts of PASCAL VOC and COCO."""

import collections
import itertools
import json
import logging
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import gin
import numpy as np
from PIL import Image

from byol_keras.benchmarks.detection.coco_values import as_box, as_flag, as_id
from byol_keras.benchmarks.detection.examples import (
    Annotated,
    DetectionData,
    FileSize,
    agreed_size,
    clipped_box,
    object_arrays,
)
from byol_keras.benchmarks.detection.masks import read_segmentation
from byol_keras.data.orientation import orientation_of
from byol_keras.data.published import VOC_CLASSES
from byol_keras.data.published_folder import PublishedFolder, read_lines
from byol_keras.runtime.regular_files import check_regular

# What reading JSON of another content raises.
_OF_OTHER_CONTENT = (AttributeError, KeyError, TypeError, ValueError)


@gin.register(module="byol_keras")
def voc_detection(
    path: str | os.PathLike,
    splits: Sequence[tuple[str, str]] = (("2007", "trainval"), ("2012", "trainval")),
    keep_difficult: bool = False,
) -> DetectionData:
    """PASCAL VOC for detection: 20 classes.

    Args:
        path: VOCdevkit as distributed, with `VOC{year}/ImageSets/Main/{split}.txt`,
            `VOC{year}/Annotations` and `VOC{year}/JPEGImages`; or the folder that
            contains it.
        splits: pairs of year and split, which are concatenated. The default is VOC07+12
            with 16,551 images; `(("2007", "test"),)` is the test split of published
            figures.
        keep_difficult: bool. Whether training uses difficult objects, as in detectron2
            but not in mmdetection. Evaluation treats them as difficult in both cases.

    Returns:
        `DetectionData`, which lists bad annotations in `bad`. One warning counts them.
        An image whose size is not that of its annotation is left out; a size that is
        missing or 0 is read from the file. See `examples.agreed_size` on orientation.

    Raises:
        ValueError: if a list is missing, contains a path outside its folder, or has no
            readable image.

    Source: host.robots.ox.ac.uk/pascal/VOC. The files count pixels from 1, and xmax and
        ymax are the last pixels of the object. So a box starts at xmin - 1 and ends at
        xmax, as in detectron2.
    Deviation: mmdetection ends boxes at xmax - 1 and ymax - 1, one pixel less.
    """
    source = PublishedFolder("voc_detection", path, "host.robots.ox.ac.uk/pascal/VOC")
    if not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in splits):
        raise ValueError(
            "voc_detection.splits must be pairs of year and split, such as "
            f'(("2007", "test"),). Received: {splits!r}'
        )
    images, bad = [], []
    for year, split in splits:
        file = f"VOC{year}/ImageSets/Main/{split}.txt"
        listing = source.first_file(file, f"VOCdevkit/{file}")
        for line in read_lines(listing):
            if line.strip():
                image_id = line.split()[0]
                root = listing.parents[2]
                images.append((root, image_id, _below(root, f"{image_id}.jpg")))
    paths = [str(root / "JPEGImages" / file) for root, _, file in images]
    examples = []
    for (root, image_id, _), image_path, size in zip(
        images, paths, _image_sizes(paths), strict=True
    ):
        annotation = root / "Annotations" / f"{image_id}.xml"
        try:
            if size is None:
                raise ValueError(f"no readable image at {image_path}")
            examples.append(_read_voc(annotation, image_path, image_id, size, bad))
        except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
            bad.append(f"{annotation}: left out, {error}")
    name = f"VOC {' + '.join(' '.join(pair) for pair in splits)} in {source.root}"
    _report(name, examples, bad, source)
    return DetectionData(
        name, VOC_CLASSES, examples, bad, trains_difficult=keep_difficult
    )


@gin.register(module="byol_keras")
def coco_detection(path: str | os.PathLike, split: str = "train2017") -> DetectionData:
    """COCO instances: boxes and masks of 80 classes, as the annotation file lists them.

    Args:
        path: folder with `annotations/instances_{split}.json` and the images in
            `{split}/`.
        split: `"train2017"`, `"val2017"` or any other split with such files.

    Returns:
        `DetectionData`, including images without objects. Labels are positions in the
        sorted category ids. Crowds are "difficult": excluded from training and ignored
        in evaluation. An object without a usable mask counts for its box. An image
        whose size is not that of its annotation is left out; see
        `examples.agreed_size` on orientation. Bad annotations are listed in `bad`. One
        warning counts them.

    Raises:
        ValueError: if the JSON file is missing or has another format, contains a path
            outside the folder, or has no readable image.

    Source: cocodataset.org.
    """
    source = PublishedFolder("coco_detection", path, "cocodataset.org/#download")
    listing = source.first_file(f"annotations/instances_{split}.json")
    records, objects, categories = _read_coco(listing)
    label_of = {category: label for label, category in enumerate(categories)}
    folder, bad, examples = source.root / split, [], []
    items = itertools.chain.from_iterable(objects.values())
    if maskless := sum(not item.get("segmentation") for item in items):
        bad.append(f"{maskless} objects without a mask, of which only the boxes count")
    files = [_below(folder, str(record.get("file_name"))) for record in records]
    sizes = _image_sizes([str(folder / file) for file in files])
    numbers = collections.Counter(record["id"] for record in records)
    for record, file, of_file in zip(records, files, sizes, strict=True):
        found = objects.pop(record["id"], [])
        try:
            if record["id"] is None or numbers[record["id"]] > 1:
                raise ValueError("no id of its own")
            if of_file is None:
                raise ValueError(f"no readable image at {folder / file}")
            stated = record.get("height"), record.get("width")
            *size, orientation = agreed_size(stated, of_file)
        except ValueError as error:
            bad.append(f"image {file}: left out, {error}")
            continue
        found = _read_coco_objects(found, size, label_of, bad)
        example = Annotated(str(folder / file), *size, record["id"], *found)
        examples.append(example._replace(orientation=orientation))
    bad += [f"image {i}: {len(objects[i])} objects of no image" for i in objects]
    name = f"COCO {split} in {source.root}"
    _report(name, examples, bad, source)
    names, ids = tuple(categories.values()), tuple(categories)
    return DetectionData(name, names, examples, bad, ids)


def _below(folder, file):
    """Returns a relative path after a check that it stays below the folder."""
    path = pathlib.PurePath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file:
        raise ValueError(
            "a list of images must contain paths that stay below its folder. "
            f"Received: {file}, below {folder}"
        )
    return file


def _image_sizes(paths) -> list[FileSize | None]:
    """The size of each file; None if it is missing, or cannot be decoded."""

    def read(path):
        try:
            check_regular(path)
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                # Of a PNG, Pillow would decode the pixels to look for EXIF behind them.
                has_exif = image.format != "PNG" or "exif" in image.info
                orientation = orientation_of(image) if has_exif else 1
                size = FileSize(image.height, image.width, orientation)
                # Of a truncated JPEG the first part is decoded, of a PNG nothing.
                if image.format == "PNG":
                    image.verify()
                elif not image.tile:
                    return None
        except Exception:  # Pillow raises many kinds for bad files
            return None
        return size

    # Network disks answer many requests at a time.
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(read, paths, chunksize=256))


def _report(name, examples, bad, source):
    if not examples:
        reason = f", the first: {bad[0]}" if bad else " in its list"
        raise ValueError(
            f"{source.function}.path must hold readable images and annotations (get "
            f"them from {source.address}). Received: {source.root}, none{reason}"
        )
    if bad:
        logging.getLogger("byol_keras").warning(
            "%d bad annotations in %s, repaired or left out. The first: %s",
            len(bad),
            name,
            "; ".join(bad[:3]),
        )


def _read_voc(annotation, image_path, image_id, size, bad) -> Annotated:
    check_regular(annotation)
    root = ElementTree.parse(annotation).getroot()
    if root.tag != "annotation":
        raise ValueError(f"its root is {root.tag}, not annotation")
    stated = root.findtext("size/height"), root.findtext("size/width")
    *size, orientation = agreed_size(stated, size)
    objects = _Objects(size, bad)
    for item in root.findall("object"):
        name = (item.findtext("name") or "").strip()
        where = f"{annotation}: {name}"
        try:
            if name not in VOC_CLASSES:
                raise ValueError("unknown class")
            ymin, xmin, ymax, xmax = (
                _number(item, f"bndbox/{x}") for x in ("ymin", "xmin", "ymax", "xmax")
            )
        except ValueError as error:
            bad.append(f"{where}: left out, {error}")
            continue
        box = (ymin - 1, xmin - 1, ymax, xmax)
        difficult = as_flag(item.findtext("difficult", "0"))
        objects.add(box, VOC_CLASSES.index(name), difficult, None, where)
    found = Annotated(image_path, *size, image_id, *objects.fields())
    return found._replace(masks=None, orientation=orientation)


class _Objects:
    """The objects of one image, collected one by one."""

    def __init__(self, size, bad):
        self.size, self.bad = size, bad
        self.kept, self.listed, self.lost = [], [], []

    def add(self, box, label, difficult, mask, where):
        try:
            clipped = clipped_box(box, *self.size, where, self.bad)
        except ValueError as error:
            self.bad.append(f"{where}: not trained on, {error}")
            if not difficult:
                self.lost.append(label)
        else:
            self.kept.append((clipped, label, difficult, mask))
            self.listed.append(box)

    def fields(self):
        """The last fields of `Annotated`, from `boxes` on."""
        columns = zip(*self.kept, strict=True) if self.kept else ((), (), (), ())
        boxes, labels, difficult, masks = map(list, columns)
        boxes, labels, difficult = object_arrays(boxes, labels, difficult)
        listed = np.array(self.listed, np.float64).reshape(-1, 4)
        same = np.array_equal(listed, boxes)
        lost = tuple(self.lost)
        return boxes, labels, difficult, masks, None if same else listed, lost


def _number(element, path) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)


def _read_coco(listing):
    """Images, objects by image id, and category names by id."""
    try:
        # Some tools write a byte order mark.
        with open(listing, encoding="utf-8-sig") as file:
            content = json.load(file)
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        if len(categories) < len(content["categories"]):
            raise ValueError("categories with equal ids")
        objects = {}
        for item in content["annotations"]:
            objects.setdefault(as_id(item.get("image_id")), []).append(item)
        images = [{**x, "id": as_id(x.get("id"))} for x in content["images"]]
        return images, objects, dict(sorted(categories.items()))
    except (*_OF_OTHER_CONTENT, RecursionError) as error:
        raise ValueError(
            f"{listing.name} must be JSON of images, annotations with their image_id, "
            f"and categories ({type(error).__name__}: {error}). Received: {listing}"
        ) from error


def _read_coco_objects(items, size, label_of, bad):
    """The fields of `Annotated` from `boxes` on, for the objects of one image."""
    objects = _Objects(size, bad)
    for item in items:
        where = f"annotation {item.get('id')} of image {item['image_id']}"
        try:
            category = as_id(item.get("category_id"))
            if category not in label_of:
                raise ValueError("unknown class")
            box = as_box(item)
        except ValueError as error:
            bad.append(f"{where}: left out, {error}")
            continue
        mask = None
        if item.get("segmentation"):
            try:
                mask = read_segmentation(item["segmentation"], *size)
            except ValueError as error:
                bad.append(f"{where}: without its mask, {error}")
        crowd = as_flag(item.get("iscrowd"))
        objects.add(box, label_of[category], crowd, mask, where)
    return objects.fields()
