"""Generated scenes with boxes and masks, and random detections."""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.detection.examples import Annotated, DetectionData

VOC_NAMES = ("aeroplane", "bicycle", "bird", "boat")
COCO_NAMES = ("person", "bicycle", "car", "motorcycle")
COCO_IDS = (2, 5, 8, 11)  # neither contiguous nor from 0, as the published ones
# Of road, for the background, then sidewalk, building, wall and fence.
CITYSCAPES_IDS = (7, 8, 11, 12, 13)
IGNORED = 255
_HUES = ((255, 60, 60), (60, 230, 60), (70, 90, 255), (240, 220, 50))


class Scene(NamedTuple):
    """An image and what is to be found in it, `n` objects.

    Args:
        image: uint8 `[h, w, 3]`.
        boxes: float32 `[n, 4]`: ymin, xmin, ymax, xmax in pixels, tight on the masks.
        labels: int64 `[n]` from 0.
        masks: bool `[n, h, w]`.
        semantic: uint8 `[h, w]`: 0 background, label + 1, 255 at borders of objects.
        difficult: bool `[n]`: about one in ten, and never all.
        polygons: list of float `[k, 2]`: x, y of the corners of each mask.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray
    difficult: np.ndarray
    polygons: list


def make_scenes(num, size=(96, 128), num_classes=3, seed=0) -> list[Scene]:
    """Scenes of one to four objects that do not overlap; at most four classes."""
    return [
        _scene(np.random.default_rng((seed, number)), size, num_classes)
        for number in range(num)
    ]


def write_vocdevkit(folder, scenes_by_split):
    """Writes `VOC<year>` below the folder, from {year: {split: scenes}}."""
    from PIL import Image

    for year, splits in scenes_by_split.items():
        root = pathlib.Path(folder) / f"VOC{year}"
        number = 0
        for split, scenes in splits.items():
            names = []
            for scene in scenes:
                number += 1
                name = f"{number:06}" if year == "2007" else f"2008_{number:06}"
                names.append(name)
                _write_jpeg(root / "JPEGImages" / f"{name}.jpg", scene.image)
                _write(root / "Annotations" / f"{name}.xml", voc_xml(scene, name))
                semantic = Image.fromarray(scene.semantic).convert("P")
                semantic.putpalette(_palette())
                path = root / "SegmentationClass" / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                semantic.save(path)
            for task in ("Main", "Segmentation"):
                listing = root / "ImageSets" / task / f"{split}.txt"
                _write(listing, "".join(f"{name}\n" for name in names))


def write_coco(folder, scenes_by_split):
    """Writes `<split>/*.jpg` and `annotations/instances_<split>.json`.

    Objects are polygons, every third a run-length mask; difficult ones are crowds.
    """
    folder = pathlib.Path(folder)
    for split, scenes in scenes_by_split.items():
        images, annotations = [], []
        for number, scene in enumerate(scenes):
            image_id = 100 + 7 * number
            name = f"{image_id:012}.jpg"
            _write_jpeg(folder / split / name, scene.image)
            height, width = scene.semantic.shape
            images.append(
                {"id": image_id, "file_name": name, "height": height, "width": width}
            )
            for index in range(len(scene.labels)):
                annotation = _coco_annotation(scene, index, len(annotations))
                annotations.append(annotation | {"image_id": image_id})
        categories = [
            {"id": i, "name": name, "supercategory": "shape"}
            for i, name in zip(COCO_IDS, COCO_NAMES, strict=True)
        ]
        used = 1 + max(label for scene in scenes for label in scene.labels)
        content = {
            "images": images,
            "annotations": annotations,
            "categories": categories[:used],
        }
        path = folder / "annotations" / f"instances_{split}.json"
        _write(path, json.dumps(content))


def write_cityscapes(folder, scenes_by_split, label_files=("labelIds",)):
    """Writes `leftImg8bit/` and `gtFine/` of two towns; the background is road.

    Args:
        label_files: of `"labelIds"`, as published, and `"labelTrainIds"`, where the
            background is 0 and a label is one more.
    """
    folder = pathlib.Path(folder)
    label_ids = np.zeros(256, np.uint8)  # 0 is "unlabeled", ignored
    label_ids[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    for split, scenes in scenes_by_split.items():
        for number, scene in enumerate(scenes):
            town = ("aachen", "bochum")[number % 2]
            stem = f"{town}_{number:06}_000019"
            image = folder / "leftImg8bit" / split / town / f"{stem}_leftImg8bit.png"
            _write(image, tf.io.encode_png(scene.image).numpy())
            for kind in label_files:
                content = scene.semantic
                content = label_ids[content] if kind == "labelIds" else content
                path = folder / "gtFine" / split / town / f"{stem}_gtFine_{kind}.png"
                _write(path, tf.io.encode_png(content[..., None]).numpy())


def voc_xml(scene, name):
    """The annotation of VOC: corners are 1-based and belong to the object."""
    height, width = scene.semantic.shape
    objects = ""
    for box, label, difficult in zip(
        scene.boxes.astype(int), scene.labels, scene.difficult, strict=True
    ):
        ymin, xmin, ymax, xmax = box
        objects += (
            f"<object><name>{VOC_NAMES[label]}</name><pose>Unspecified</pose>"
            f"<truncated>0</truncated><difficult>{int(difficult)}</difficult><bndbox>"
            f"<xmin>{xmin + 1}</xmin><ymin>{ymin + 1}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>\n"
        )
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )


def run_lengths(mask):
    """COCO's run-length code of a mask: runs of 0 and 1 by turns, column by column."""
    pixels = np.concatenate([[0], mask.T.ravel(), [0]]).astype(np.int8)
    changes = np.flatnonzero(np.diff(pixels))
    edges = np.concatenate([[0], changes, [mask.size]])
    runs = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": runs if runs[-1] else runs[:-1]}


def _scene(rng, size, num_classes):
    height, width = size
    image = _background(rng, height, width)
    semantic = np.zeros(size, np.uint8)
    boxes, labels, masks, polygons = [], [], [], []
    for _ in range(rng.integers(1, 5)):
        label = int(rng.integers(num_classes))
        polygon = _free_polygon(rng, label, height, width, boxes)
        if polygon is None:
            continue
        mask = _inside(polygon, height, width)
        shade = np.array(_HUES[label]) * rng.uniform(0.6, 1.0)
        shade = shade + rng.normal(0, 12, (height, width, 3))
        image[mask] = np.clip(shade, 0, 255)[mask]
        semantic[mask] = label + 1
        semantic[_border(mask)] = IGNORED
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        labels.append(label)
        masks.append(mask)
        polygons.append(polygon)
    difficult = rng.uniform(size=len(boxes)) < 0.1
    difficult[0] = False
    return Scene(
        image,
        np.array(boxes, np.float32),
        np.array(labels),
        np.array(masks),
        semantic,
        difficult,
        polygons,
    )


def _background(rng, height, width):
    """Grey waves in a random direction with noise: nothing to confuse with a shape."""
    y, x = np.mgrid[:height, :width]
    angle, length = rng.uniform(0, np.pi), rng.uniform(6, 20)
    phase = (y * np.sin(angle) + x * np.cos(angle)) * 2 * np.pi / length
    waves = rng.uniform(80, 170) + 25 * np.sin(phase)[..., None]
    return np.clip(waves + rng.normal(0, 10, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def _free_polygon(rng, label, height, width, boxes):
    """A shape that keeps two pixels off the others; None if no place is found."""
    short = min(height, width)
    for _ in range(30):
        h, w = rng.uniform(0.25 * short, 0.55 * short, 2)
        if label != 0:  # only rectangles differ much in their two sides
            w = h * rng.uniform(0.85, 1.15)
        y, x = rng.uniform(1, height - h - 1), rng.uniform(1, width - w - 1)
        if not any(
            y < box[2] + 2 and box[0] < y + h + 2
            and x < box[3] + 2 and box[1] < x + w + 2
            for box in boxes
        ):  # fmt: skip
            return np.array([x, y]) + _corners(label) * np.array([w, h])
    return None


def _corners(label):
    """Corners of the shape in the unit square, x and y, clockwise on the screen."""
    if label == 0:
        return np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    if label == 1:
        turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        return 0.5 + 0.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if label == 2:
        return np.array([[0.5, 0], [1, 1], [0, 1]])
    return np.array([[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]])


def _inside(polygon, height, width):
    """Pixels whose center is inside a convex polygon."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.ones((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return inside


def _border(mask):
    """Pixels of which a neighbour, up, down, left or right, is on the other side."""
    border = np.zeros_like(mask)
    for axis in (0, 1):
        differs = np.diff(mask, axis=axis)
        border |= np.insert(differs, 0, False, axis=axis)
        border |= np.insert(differs, mask.shape[axis] - 1, False, axis=axis)
    return border


def _palette():
    """VOC's: the bits of a value give those of red, green and blue by turns."""
    colours = np.zeros((256, 3), np.uint8)
    values = np.arange(256)
    for bit in range(3):
        for channel in range(3):
            colours[:, channel] |= (
                ((values >> (3 * bit + channel)) & 1) << (7 - bit)
            ).astype(np.uint8)
    return colours.ravel().tolist()


def _coco_annotation(scene, index, number):
    ymin, xmin, ymax, xmax = scene.boxes[index].tolist()
    crowd = bool(scene.difficult[index])
    if crowd or number % 3 == 2:
        segmentation = run_lengths(scene.masks[index])
    else:
        segmentation = [scene.polygons[index].round(2).ravel().tolist()]
    return {
        "id": 1000 + 3 * number,
        "category_id": COCO_IDS[scene.labels[index]],
        "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
        "area": int(scene.masks[index].sum()),
        "iscrowd": int(crowd),
        "segmentation": segmentation,
    }


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(content)


def _write_jpeg(path, image):
    _write(path, tf.io.encode_jpeg(image, quality=95).numpy())


def data_of(boxes, labels, difficult=None, num_classes=3, size=(100, 100)):
    """`DetectionData` of one list of boxes, and one of labels, per image."""
    examples = []
    for number, image_boxes in enumerate(boxes):
        count = len(image_boxes)
        examples.append(
            Annotated(
                f"{number}.jpg",
                *size,
                number,
                np.array(image_boxes, np.float32).reshape(-1, 4),
                np.array(labels[number], np.int64).reshape(count),
                np.zeros(count, bool) if difficult is None else difficult[number],
                None,
            )
        )
    return DetectionData("test data", tuple("abcdefgh"[:num_classes]), examples, [])


def random_boxes(rng, count, size=100):
    start = rng.uniform(0, 0.6 * size, (count, 2))
    sides = rng.uniform(0.1 * size, 0.39 * size, (count, 2))
    return np.concatenate([start, start + sides], axis=1).round().astype(np.float32)


def random_case(seed, num_images=12, num_classes=3):
    """Data, and detections: objects found more or less exactly, twice, or invented."""
    rng = np.random.default_rng(seed)
    boxes, labels, difficult, detections = [], [], [], []
    for _ in range(num_images):
        count = rng.integers(0, 6)
        boxes.append(random_boxes(rng, count))
        labels.append(rng.integers(0, num_classes, count))
        difficult.append(rng.uniform(size=count) < 0.2)
        again = rng.integers(0, count, 2 * count) if count else np.zeros(0, int)
        invented = rng.integers(0, 4)
        found = boxes[-1][again] + rng.normal(0, 1.5, (len(again), 4))
        found = np.concatenate([found, random_boxes(rng, invented)])
        names = [labels[-1][again], rng.integers(0, num_classes, invented)]
        scores = rng.uniform(0, 1, len(found))
        detections.append(
            (
                np.clip(found, 0, 100).astype(np.float32),
                scores.astype(np.float32),
                np.concatenate(names),
                None,
            )
        )
    return data_of(boxes, labels, difficult, num_classes), detections
