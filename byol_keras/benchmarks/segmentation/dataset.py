"""Segmentation datasets, read in their published folder layouts."""

import os
import pathlib
from collections.abc import Sequence

import gin
import numpy as np

from byol_keras.benchmarks.segmentation.examples import (
    UNKNOWN,
    SegmentationData,
    scipy_io,
)
from byol_keras.benchmarks.segmentation.metrics import IGNORED
from byol_keras.data.published import VOC_CLASSES
from byol_keras.data.published_folder import PublishedFolder, read_lines

CITYSCAPES_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
# The labelIds of the classes above; the other ids up to 33 are ignored.
# Source: cityscapesScripts, `helpers/labels.py`.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
_CITYSCAPES_LAST_ID = 33

_LISTS = "VOC2012/ImageSets/Segmentation"
_SBD_ADDRESS = "home.bharathh.info/pubs/codes/SBD"


@gin.register(module="byol_keras")
def voc_segmentation(
    path: str | os.PathLike,
    splits: Sequence[str] = ("train", "aug"),
    sbd_path: str | os.PathLike | None = None,
) -> SegmentationData:
    """PASCAL VOC 2012 segmentation: 20 classes and the background.

    There are 1,464 images in `"train"`, 1,449 in `"val"`, and 9,118 in `"aug"`: the
    images of SBD that are in neither.

    Args:
        path: VOCdevkit as distributed, or the folder that contains it, with
            `VOC2012/ImageSets/Segmentation/{split}.txt`, `VOC2012/JPEGImages` and
            `VOC2012/SegmentationClass`. `"aug"` also needs `aug.txt` in the folder of
            the lists and `VOC2012/SegmentationClassAug`, or `sbd_path`.
        splits: names of lists, which are concatenated.
        sbd_path: SBD as distributed, `benchmark_RELEASE/dataset`, with `train.txt`,
            `val.txt` and `cls/*.mat`. Needs SciPy.

    Raises:
        ValueError: if a list is missing, or an image or mask of a list.

    Source: host.robots.ox.ac.uk/pascal/VOC/voc2012; SBD: Hariharan et al. 2011. The
        extended set is that of mmsegmentation 0.x.
    """
    if not (isinstance(splits, (list, tuple)) and splits):
        raise ValueError(
            f"voc_segmentation.splits must be a list of names. Received: {splits!r}"
        )
    root = pathlib.Path(path).expanduser()
    root = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    address = "host.robots.ox.ac.uk/pascal/VOC/voc2012"
    source = PublishedFolder("voc_segmentation", root, address)
    images, masks = [], []
    for split in splits:
        if split == "aug" and sbd_path is not None:
            names, folder, suffix = _sbd(source, pathlib.Path(sbd_path).expanduser())
        else:
            names, folder, suffix = _voc_masks(source, split)
        images += _present(source, root / "VOC2012/JPEGImages", names, ".jpg")
        masks += _present(source, folder, names, suffix)
    values = np.full(256, UNKNOWN, np.uint8)
    values[:21], values[IGNORED] = np.arange(21), IGNORED
    name = f"VOC2012 segmentation in {root}, {' and '.join(splits)}"
    classes = ("background", *VOC_CLASSES)
    return SegmentationData(name, classes, tuple(images), tuple(masks), values)


@gin.register(module="byol_keras")
def cityscapes_segmentation(
    path: str | os.PathLike, split: str = "train"
) -> SegmentationData:
    """Cityscapes, fine annotations: 2,975 training and 500 validation images.

    Args:
        path: folder with `leftImg8bit/{split}/<city>/*_leftImg8bit.png` and
            `gtFine/{split}/<city>/*_gtFine_labelTrainIds.png`, or `..._labelIds.png`
            as in the archives, where 19 of the ids are the classes.
        split: `"train"` or `"val"`.

    Raises:
        ValueError: if there are no images, or one has no mask.

    Source: cityscapes-dataset.com; cityscapesScripts for the ids.
    """
    source = PublishedFolder(
        "cityscapes_segmentation", path, "cityscapes-dataset.com/downloads"
    )
    source.check_split(split)
    folder = source.root / "leftImg8bit" / split
    stems = sorted(
        file.relative_to(folder).as_posix().removesuffix("_leftImg8bit.png")
        for file in folder.glob("*/*_leftImg8bit.png")
    )
    if not stems:
        raise source.missing(f"leftImg8bit/{split}/<city>/*_leftImg8bit.png")
    annotations = source.root / "gtFine" / split
    for kind in ("labelTrainIds", "labelIds"):
        masks = [annotations / f"{stem}_gtFine_{kind}.png" for stem in stems]
        absent = [mask for mask in masks if not mask.is_file()]
        if not absent:
            break
    else:
        raise source.missing(
            f"gtFine/{split}/<city>/*_gtFine_labelIds.png for all {len(stems)} images, "
            f"such as {absent[0].name}"
        )
    return SegmentationData(
        f"Cityscapes in {source.root}, {split}",
        CITYSCAPES_CLASSES,
        tuple(str(folder / f"{stem}_leftImg8bit.png") for stem in stems),
        tuple(map(str, masks)),
        _cityscapes_values(kind),
    )


def _cityscapes_values(kind):
    values = np.full(256, UNKNOWN, np.uint8)
    values[IGNORED] = IGNORED
    classes = np.arange(len(CITYSCAPES_CLASSES))
    if kind == "labelTrainIds":
        values[classes] = classes
    else:
        values[: _CITYSCAPES_LAST_ID + 1] = IGNORED
        values[list(_CITYSCAPES_IDS)] = classes
    return values


def _voc_masks(source, split):
    """Names in a list, the folder of their masks, and the suffix of the files."""
    kind = "SegmentationClassAug" if split == "aug" else "SegmentationClass"
    listing = source.root / _LISTS / f"{split}.txt"
    if split == "aug" and not listing.is_file():
        raise ValueError(
            f"voc_segmentation.path must hold {_LISTS}/aug.txt and VOC2012/{kind} "
            "(mmsegmentation's voc_aug.py makes them), or sbd_path be SBD (get it from "
            f"{_SBD_ADDRESS}). Received: {source.root}, without it"
        )
    names = _names(source.first_file(f"{_LISTS}/{split}.txt"))
    return names, source.root / "VOC2012" / kind, ".png"


def _sbd(source, folder):
    """Names of the images of SBD that VOC does not list, their folder, the suffix."""
    scipy_io()
    names = set()
    for split in ("train", "val"):
        listing = folder / f"{split}.txt"
        if not listing.is_file():
            raise ValueError(
                f"voc_segmentation.sbd_path must hold {split}.txt and cls/*.mat (get "
                f"them from {_SBD_ADDRESS}). Received: {folder}, without {split}.txt"
            )
        names |= {*_names(listing)}
    for split in ("train", "val"):
        names -= {*_names(source.first_file(f"{_LISTS}/{split}.txt"))}
    return sorted(names), folder / "cls", ".mat"


def _names(listing: pathlib.Path) -> list[str]:
    names = " ".join(read_lines(listing)).split()
    if not names:
        raise ValueError(
            f"{listing.name} must list images, one name in a line. "
            f"Received: an empty list, {listing}"
        )
    return names


def _present(source, folder, names, suffix) -> list[str]:
    """Paths of the named files, after a check that the folder holds all of them."""
    present = {*os.listdir(folder)} if folder.is_dir() else set()
    absent = [name for name in names if name + suffix not in present]
    if absent:
        raise source.missing(
            f"{folder.name}/*{suffix} for all {len(names)} names of its list, "
            f"such as {absent[0]}{suffix}"
        )
    return [str(folder / f"{name}{suffix}") for name in names]
