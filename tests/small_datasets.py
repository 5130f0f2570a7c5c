"""Small datasets in the layouts in which the real ones are published.

Every image is of one grey value, its number, so that an image tells which it is.
"""

import json

import numpy as np
import tensorflow as tf
from small_sources import write

from byol_keras.labelled_lists import VOC_CLASSES

WNIDS = ("n01440764", "n01443537", "n01484850")


def write_jpeg(path, number, height=6, width=5):
    image = np.full((height, width, 3), number, np.uint8)
    write(path, tf.io.encode_jpeg(image, quality=100))


def write_text(path, lines):
    write(path, "".join(f"{line}\n" for line in lines).encode())


def numbers(data):
    """The numbers of the images, in stored order."""
    return [int(example["image"][0, 0, 0]) for example in data.ordered()]


def make_places205(
    folder, separator=" ", images="data/vision/torralba/deeplearning/images256"
):
    """Three scenes; train: images 0..5 with labels 2 0 1 2 0 1; val: 6 7 8, 0 1 2."""
    scenes = ("a/abbey", "c/church/outdoor", "z/zoo")
    for split, labels, first in (
        ("train", (2, 0, 1, 2, 0, 1), 0),
        ("val", range(3), 6),
    ):
        lines = []
        for number, label in enumerate(labels, start=first):
            file = f"{scenes[label]}/gsun_{number}.jpg"
            write_jpeg(folder / images / file, number)
            lines.append(f"{file}{separator}{label}")
        write_text(folder / f"trainvalsplit_places205/{split}_places205.csv", lines)
    return folder


def make_inaturalist2018(folder):
    """Three species; train: images 0..4 with labels 1 0 2 1 0; val: 5 6 7, 0 1 2."""
    categories = [{"id": label, "name": f"species {label}"} for label in (2, 0, 1)]
    for split, labels, first in (("train", (1, 0, 2, 1, 0), 0), ("val", range(3), 5)):
        images, annotations = [], []
        for number, label in enumerate(labels, start=first):
            file = f"train_val2018/Aves/{label}/{number}.jpg"
            write_jpeg(folder / file, number)
            images.append({"id": 100 + number, "file_name": file})
            annotations.append({"image_id": 100 + number, "category_id": label})
        content = {
            "images": images,
            "annotations": annotations[::-1],  # tied by id, not by place
            "categories": categories,
        }
        write(folder / f"{split}2018.json", json.dumps(content).encode())
    return folder


def make_imagenet(folder, flat_val=False):
    """Three classes; train: two images each, 0..5; val: one each, 6 7 8.

    With `flat_val`, the validation images have the labels 2 0 1, from a list.
    """
    for number in range(6):
        wnid = WNIDS[number // 2]
        write_jpeg(folder / "train" / wnid / f"{wnid}_{number}.JPEG", number)
    files = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (6, 7, 8)]
    for number, file, wnid in zip((6, 7, 8), files, WNIDS, strict=True):
        write_jpeg(folder / "val" / ("" if flat_val else wnid) / file, number)
    if flat_val:
        lines = [
            f"{file} {label}" for file, label in zip(files, (2, 0, 1), strict=True)
        ]
        write_text(folder / "val.txt", lines)
    return folder


def make_vocdevkit(folder, year="2007", splits=("trainval", "test"), num_images=6):
    """`num_images` images per split, of which image i shows the classes i and i + 1.

    The class i + 2 is "difficult" in image i. Images count on from split to split, and
    classes from 0 in every split.
    """
    base = folder / "VOCdevkit" / f"VOC{year}"
    for part, split in enumerate(splits):
        for number in range(num_images):
            image = part * num_images + number
            write_jpeg(base / f"JPEGImages/{image:06}.jpg", image)
        for place, name in enumerate(VOC_CLASSES):
            lines = []
            for number in range(num_images):
                value = {0: " 1", 1: " 1", 2: " 0"}.get(place - number, "-1")
                lines.append(f"{part * num_images + number:06} {value}")
            write_text(base / f"ImageSets/Main/{name}_{split}.txt", lines)
    return folder
