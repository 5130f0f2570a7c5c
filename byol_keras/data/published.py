"""Labelled images in the published layouts of their datasets.

TensorFlow Datasets (`data.tfds_dataset`) also has ImageNet and iNaturalist 2018, but
converts them to records; these functions read the downloaded, unpacked files.
"""

import json
import os
import pathlib
import re

import gin
import numpy as np

from byol_keras.data import image_files
from byol_keras.data.image_data import ImageData
from byol_keras.data.published_folder import (
    PublishedFolder,
    malformed,
    read_lines,
    read_list,
)

# In the published, alphabetical order.
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

# Label in the files -> our label: positive, negative, ignored.
_VOC_LABELS = {"1": 1, "-1": 0, "0": -1}


@gin.register(module="byol_keras")
def places205(
    path: str | os.PathLike,
    split: str = "train",
    list_file: str | os.PathLike | None = None,
) -> ImageData:
    """Places205: 2,448,873 training and 20,500 validation images of 205 scenes.

    Args:
        path: folder that holds `trainvalsplit_places205/{split}_places205.csv` or
            `{split}_places205.csv`, and the images of that list below
            `data/vision/torralba/deeplearning/images256` or below itself.
        split: `"train"` or `"val"`.
        list_file: another list, of lines such as `a/abbey/gsun_1.jpg 0`.

    Returns:
        `ImageData` in the order of the list. A class is named after its folder.

    Raises:
        ValueError: if the list or an image in it is missing, or a line is malformed.

    Source: places.csail.mit.edu; the layout of the archives, which mmselfsup 0.x reads
        too.
    """
    source = PublishedFolder(
        "places205", path, "places.csail.mit.edu/downloadData.html"
    )
    source.check_split(split)
    if list_file:
        listing = pathlib.Path(list_file).expanduser()
        if not listing.is_file():
            raise ValueError(
                f"places205.list_file must be an existing file. Received: {listing}"
            )
    else:
        name = f"{split}_places205.csv"
        listing = source.first_file(f"trainvalsplit_places205/{name}", name)
    files, labels = read_list(listing)
    unpacked = source.root / "data/vision/torralba/deeplearning/images256"
    folder = unpacked if unpacked.is_dir() else source.root
    return source.listed(
        f"Places205 in {source.root}, split {split}",
        folder,
        files,
        labels,
        _scene_names(files, labels),
    )


@gin.register(module="byol_keras")
def inaturalist2018(path: str | os.PathLike, split: str = "train") -> ImageData:
    """iNaturalist 2018: 437,513 training and 24,426 validation images, 8,142 species.

    Args:
        path: folder that holds `{split}2018.json` and the images `train_val2018/...`.
        split: `"train"` or `"val"`.

    Returns:
        `ImageData` in the order of the JSON file. A label is the rank of the category
        id, which equals the published id. Class names are those of the file: numbers,
        unless you have replaced its categories by the ones that were released later.

    Raises:
        ValueError: if the JSON file or one of its images is missing, or the file has
            another structure.

    Source: github.com/visipedia/inat_comp, 2018.
    """
    address = "github.com/visipedia/inat_comp/tree/master/2018"
    source = PublishedFolder("inaturalist2018", path, address)
    source.check_split(split)
    listing = source.first_file(f"{split}2018.json")
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
        categories = sorted(content["categories"], key=lambda item: item["id"])
        label_of = {item["id"]: label for label, item in enumerate(categories)}
        labels_of_images = {
            item["image_id"]: label_of[item["category_id"]]
            for item in content["annotations"]
        }
        files = [item["file_name"] for item in content["images"]]
        labels = [labels_of_images[item["id"]] for item in content["images"]]
        class_names = tuple(item["name"] for item in categories)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{listing.name} must be JSON of images, each with one of the annotations, "
            f"and of categories ({type(error).__name__}: {error}). Received: {listing}"
        ) from error
    name = f"iNaturalist 2018 in {source.root}, split {split}"
    return source.listed(name, source.root, files, labels, class_names)


@gin.register(module="byol_keras")
def imagenet_folder(path: str | os.PathLike, split: str = "train") -> ImageData:
    """ImageNet, ILSVRC 2012, unpacked: one folder of images per WordNet id.

    Args:
        path: folder that holds `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`. The
            validation images may also be flat, as in their archive: `val/*.JPEG` with a
            list, `val.txt` or `meta/val.txt`, of lines such as
            `ILSVRC2012_val_00000001.JPEG 65`.
        split: `"train"` or `"val"`.

    Returns:
        `ImageData` in the order of the relative paths, or of the list. A label is the
        rank of the WordNet id among those of `train`, or of `val` without `train`.

    Raises:
        ValueError: if the folder, the list or a listed image is missing; if `train`
            lacks a class.
    """
    source = PublishedFolder("imagenet_folder", path, "image-net.org/download.php")
    source.check_split(split)
    folder = source.root / split
    wnids = _folders(source.root / "train")
    if _folders(folder):
        wnids = wnids or _folders(folder)
        files, labels = _images_in_folders(folder, wnids)
    elif split == "train" or not folder.is_dir():
        raise source.missing(f"{split}/<wnid>/*.JPEG")
    else:
        listing = source.first_file("val.txt", "meta/val.txt")
        files, labels = read_list(listing)
        wnids = wnids or _numbers(labels)
        highest = max(labels, default=-1)
        if highest >= len(wnids):
            raise ValueError(
                f"{listing.name} must hold labels below {len(wnids)}, the number of "
                f"classes in train. Received: {highest} in {listing}"
            )
    name = f"ImageNet in {source.root}, split {split}"
    return source.listed(name, folder, files, labels, wnids)


@gin.register(module="byol_keras")
def voc_classification(
    path: str | os.PathLike, year: str = "2007", split: str = "trainval"
) -> ImageData:
    """PASCAL VOC for classification: 20 classes, any number of them per image.

    Args:
        path: the distributed folder VOCdevkit, with `VOC{year}/ImageSets/Main` and
            `VOC{year}/JPEGImages`; or the folder that contains it.
        year: `"2007"` or `"2012"`.
        split: `"train"`, `"val"`, `"trainval"`, or, for 2007 only, `"test"`.

    Returns:
        `ImageData` in the order of the lists, with labels int64 `[N, 20]`: 1 for a
        class in the image, 0 for another, -1 ("difficult") for a class to ignore. The
        files use 1, -1 and 0.

    Raises:
        ValueError: if a list or a listed image is missing, a line is malformed, or the
            lists of two classes name different images.

    Source: host.robots.ox.ac.uk/pascal/VOC; the labels are those of mmselfsup 0.x.
    """
    address = "host.robots.ox.ac.uk/pascal/VOC"
    source = PublishedFolder("voc_classification", path, address)
    source.check_split(split, ("train", "val", "trainval", "test"))
    ids, columns = None, []
    for class_name in VOC_CLASSES:
        file = f"VOC{year}/ImageSets/Main/{class_name}_{split}.txt"
        listing = source.first_file(file, f"VOCdevkit/{file}")
        found, column = _read_voc_list(listing)
        if ids not in (None, found):
            raise ValueError(
                f"{listing.name} must list the images of {VOC_CLASSES[0]}_{split}.txt. "
                f"Received: others in {listing}"
            )
        ids = found
        columns.append(column)
    return source.listed(
        f"VOC{year} in {source.root}, split {split}",
        listing.parents[2],
        [f"JPEGImages/{name}.jpg" for name in ids],
        np.stack(columns, axis=1),
        VOC_CLASSES,
    )


def _folders(folder: pathlib.Path) -> tuple[str, ...]:
    """Sorted names of the sub-folders that are not hidden; empty without the folder."""
    if not folder.is_dir():
        return ()
    inner = [item.name for item in folder.iterdir() if item.is_dir()]
    return tuple(sorted(name for name in inner if not image_files.is_foreign(name)))


def _images_in_folders(folder, class_names) -> tuple[list[str], list[int]]:
    """Relative paths of the images, and the indices of their folders in the names."""
    files = image_files.find_images(folder).files
    label_of = {name: label for label, name in enumerate(class_names)}
    classes = [file.partition("/")[0] for file in files]
    strangers = sorted(set(classes) - set(label_of))
    if strangers:
        raise ValueError(
            "imagenet_folder.path must hold images in folders of the classes of train "
            f"only. Received: {folder} with {strangers[0]}"
        )
    return files, [label_of[name] for name in classes]


def _scene_names(files, labels) -> tuple[str, ...]:
    """The folder of the first image of each label, as `church/outdoor`."""
    names = {}
    for file, label in zip(files, labels, strict=True):
        if label not in names:
            names[label] = re.sub(r"^\w/", "", file.rpartition("/")[0])
    return tuple(names.get(int(number), number) for number in _numbers(labels))


def _numbers(labels) -> tuple[str, ...]:
    return tuple(str(label) for label in range(max(labels, default=-1) + 1))


def _read_voc_list(path: pathlib.Path) -> tuple[list[str], list[int]]:
    """Image ids, and their labels for the class of the file."""
    ids, labels = [], []
    for number, line in enumerate(read_lines(path), start=1):
        name, _, label = line.strip().partition(" ")
        if label.strip() not in _VOC_LABELS:
            raise malformed(path, "of an image id and 1, -1 or 0", number, line)
        ids.append(name)
        labels.append(_VOC_LABELS[label.strip()])
    return ids, labels
