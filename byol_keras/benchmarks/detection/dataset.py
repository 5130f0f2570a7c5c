"""Detection datasets, read in the published layouts of PASCAL VOC and COCO."""

import json
import logging
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import gin

from byol_keras.benchmarks.detection.examples import (
    Annotated,
    DetectionData,
    clipped_box,
    image_side,
    object_arrays,
)
from byol_keras.benchmarks.detection.masks import read_segmentation
from byol_keras.data.published import VOC_CLASSES
from byol_keras.data.published_folder import PublishedFolder


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
        for line in listing.read_text().splitlines():
            if line.strip():
                image_id = line.split()[0]
                root = listing.parents[2]
                images.append((root, image_id, _below(root, f"{image_id}.jpg")))
    paths = [str(root / "JPEGImages" / file) for root, _, file in images]
    examples = []
    for (root, image_id, _), image_path, is_image in zip(
        images, paths, _are_images(paths), strict=True
    ):
        annotation = root / "Annotations" / f"{image_id}.xml"
        try:
            if not is_image:
                raise ValueError(f"no readable image at {image_path}")
            examples.append(_read_voc(annotation, image_path, image_id, bad))
        except (OSError, ValueError, ElementTree.ParseError) as error:
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
        in evaluation. Bad annotations are listed in `bad`. One warning counts them.

    Raises:
        ValueError: if the JSON file is missing or has another format, contains a path
            outside the folder, or has no readable image.

    Source: cocodataset.org.
    """
    source = PublishedFolder("coco_detection", path, "cocodataset.org/#download")
    listing = source.first_file(f"annotations/instances_{split}.json")
    records, objects, categories = _read_coco(listing)
    label_of = {category: label for label, category in enumerate(categories)}
    folder, bad, read = source.root / split, [], []
    for record in records:
        file = _below(folder, str(record.get("file_name")))
        try:
            size = image_side(record["height"]), image_side(record["width"])
            read.append((str(folder / file), size, record["id"]))
        except (KeyError, TypeError, ValueError) as error:
            bad.append(f"image {file}: left out, {type(error).__name__}: {error}")
    paths = [image_path for image_path, _, _ in read]
    examples = []
    for (image_path, size, image_id), is_image in zip(
        read, _are_images(paths), strict=True
    ):
        found = objects.pop(image_id, [])
        if is_image:
            found = _read_coco_objects(found, size, label_of, bad)
            examples.append(Annotated(image_path, *size, image_id, *found))
        else:
            bad.append(f"image {image_id}: left out, no readable image at {image_path}")
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


def _are_images(paths):
    """Whether each file exists and starts like a JPEG or PNG image."""

    def check(path):
        try:
            with open(path, "rb") as file:
                return file.read(4).startswith((b"\xff\xd8\xff", b"\x89PNG"))
        except OSError:
            return False

    # Network disks answer many requests at a time.
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(check, paths, chunksize=256))


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


def _read_voc(annotation, image_path, image_id, bad) -> Annotated:
    root = ElementTree.parse(annotation).getroot()
    height, width = (
        image_side(_number(root, f"size/{x}")) for x in ("height", "width")
    )
    boxes, labels, difficult = [], [], []
    for item in root.findall("object"):
        name = (item.findtext("name") or "").strip()
        where = f"{annotation}: {name}"
        try:
            if name not in VOC_CLASSES:
                raise ValueError("unknown class")
            ymin, xmin, ymax, xmax = (
                _number(item, f"bndbox/{x}") for x in ("ymin", "xmin", "ymax", "xmax")
            )
            box = (ymin - 1, xmin - 1, ymax, xmax)
            boxes.append(clipped_box(box, height, width, where, bad))
        except ValueError as error:
            bad.append(f"{where}: left out, {error}")
            continue
        labels.append(VOC_CLASSES.index(name))
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    arrays = object_arrays(boxes, labels, difficult)
    return Annotated(image_path, height, width, image_id, *arrays, None)


def _number(element, path) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)


def _read_coco(listing):
    """Images, objects by image id, and category names by id."""
    try:
        with open(listing, encoding="utf-8") as file:
            content = json.load(file)
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        objects = {}
        for item in content["annotations"]:
            objects.setdefault(item.get("image_id"), []).append(item)
        images = [dict(image) for image in content["images"]]
        return images, objects, dict(sorted(categories.items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{listing.name} must be JSON of images, annotations with their image_id, "
            f"and categories ({type(error).__name__}: {error}). Received: {listing}"
        ) from error


def _read_coco_objects(items, size, label_of, bad):
    """Boxes, labels, crowds and masks of the objects of one image."""
    boxes, labels, crowds, masks = [], [], [], []
    for item in items:
        where = f"annotation {item.get('id')} of image {item['image_id']}"
        try:
            if item["category_id"] not in label_of:
                raise ValueError("unknown class")
            mask = read_segmentation(item["segmentation"], *size)
            x, y, width, height = item["bbox"]
            box = (y, x, y + height, x + width)
            boxes.append(clipped_box(box, *size, where, bad))
        except (KeyError, TypeError, ValueError) as error:
            bad.append(f"{where}: left out, {error}")
            continue
        labels.append(label_of[item["category_id"]])
        crowds.append(bool(item.get("iscrowd", 0)))
        masks.append(mask)
    return *object_arrays(boxes, labels, crowds), masks
