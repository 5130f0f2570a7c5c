"""VOC, SBD and Cityscapes are read in their published layouts."""

import shutil

import numpy as np
import pytest

from byol_keras.benchmarks.segmentation.dataset import (
    CITYSCAPES_CLASSES,
    cityscapes_segmentation,
    voc_segmentation,
)

from support.scenes import make_scenes, write_cityscapes, write_vocdevkit

SCENES = make_scenes(6, size=(24, 32))
LISTS = "VOC2012/ImageSets/Segmentation"


@pytest.fixture
def voc(tmp_path):
    """Two images each in train and val, and two that no list names yet."""
    splits = {"train": SCENES[:2], "val": SCENES[2:4], "rest": SCENES[4:]}
    write_vocdevkit(tmp_path / "VOCdevkit", {"2012": splits})
    return tmp_path / "VOCdevkit"


@pytest.fixture
def towns(tmp_path):
    write_cityscapes(tmp_path, {"train": SCENES[:2], "val": SCENES[2:3]})
    return tmp_path


def masks_of(data):
    return [data.read(place)[1] for place in range(len(data.images))]


def assert_scenes(data, scenes):
    for mask, scene in zip(masks_of(data), scenes, strict=True):
        np.testing.assert_array_equal(mask, scene.semantic)


def test_voc_masks_are_the_indices_of_the_palette(voc):
    data = voc_segmentation(voc, splits=("train",))
    assert_scenes(data, SCENES[:2])
    assert len(data.class_names) == 21
    assert data.class_names[:2] == ("background", "aeroplane")


def test_voc_is_also_found_in_the_folder_above(voc):
    assert len(voc_segmentation(voc.parent, splits=("val",)).images) == 2


def test_image_has_three_channels_and_belongs_to_its_mask(voc):
    image, mask = voc_segmentation(voc, splits=("val",)).read(1)
    assert image.shape == (24, 32, 3)
    assert mask.shape == (24, 32)
    # The pictures are JPEG files: close to the scene, and far from any other.
    difference = np.abs(image.astype(int) - SCENES[3].image).mean()
    assert difference < np.abs(image.astype(int) - SCENES[2].image).mean() / 2


def test_aug_follows_train_with_masks_of_its_own_folder(voc):
    shutil.copy(voc / LISTS / "rest.txt", voc / LISTS / "aug.txt")
    shutil.move(voc / "VOC2012/SegmentationClass", voc / "VOC2012/SegmentationClassAug")
    folder = voc / "VOC2012/SegmentationClass"
    folder.mkdir()
    for name in (voc / LISTS / "train.txt").read_text().split():
        shutil.copy(voc / f"VOC2012/SegmentationClassAug/{name}.png", folder)
    data = voc_segmentation(voc)
    assert_scenes(data, SCENES[:2] + SCENES[4:])


def write_sbd(folder, names_and_masks):
    io = pytest.importorskip("scipy.io")
    (folder / "cls").mkdir(parents=True)
    for name, mask in names_and_masks.items():
        content = {"GTcls": {"Segmentation": mask, "Boundaries": []}}
        io.savemat(folder / "cls" / f"{name}.mat", content)
    names = list(names_and_masks)
    (folder / "train.txt").write_text("\n".join(names[:2]))
    (folder / "val.txt").write_text("\n".join(names[2:]))


def test_sbd_adds_the_images_that_no_list_of_voc_has(voc, tmp_path):
    lists = {
        split: (voc / LISTS / f"{split}.txt").read_text().split()
        for split in ("train", "val", "rest")
    }
    masks = {
        name: np.full((24, 32), 3, np.uint8)
        for name in [*lists["train"], *lists["rest"], *lists["val"]]
    }
    write_sbd(tmp_path / "sbd", masks)
    data = voc_segmentation(voc, splits=("aug",), sbd_path=tmp_path / "sbd")
    assert [path[-15:-4] for path in data.images] == lists["rest"]
    assert data.problem(0) is None
    for mask in masks_of(data):
        np.testing.assert_array_equal(mask, np.full((24, 32), 3))


@pytest.mark.parametrize("label_files", [("labelIds",), ("labelIds", "labelTrainIds")])
def test_cityscapes_ids_are_the_19_classes(tmp_path, label_files):
    write_cityscapes(tmp_path, {"train": SCENES[:4]}, label_files)
    data = cityscapes_segmentation(tmp_path)
    # By town: the scenes lie in two by turns.
    order = [SCENES[i].semantic for i in (0, 2, 1, 3)]
    for mask, expected in zip(masks_of(data), order, strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_cityscapes_values_outside_of_the_classes_are_ignored(towns):
    values = cityscapes_segmentation(towns).values
    chosen = {int(values[i]): i for i in range(34) if values[i] != 255}
    assert sorted(chosen) == list(range(19))
    names = {name: chosen[i] for i, name in enumerate(CITYSCAPES_CLASSES)}
    assert names["road"] == 7
    assert names["pole"] == 17
    assert names["person"] == 24
    assert names["bus"] == 28
    assert names["train"] == 31
    assert names["bicycle"] == 33


# Missing files are errors of one line.


def missing(match, call, *arguments, **named):
    with pytest.raises(ValueError, match=match) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)


def test_missing_list_is_one_line(tmp_path):
    match = rf"must hold {LISTS}/train.txt \(get it from host.robots.*{tmp_path}"
    missing(match, voc_segmentation, tmp_path)


def test_missing_aug_list_names_sbd(voc):
    missing("aug.txt .* or sbd_path .*SBD", voc_segmentation, voc)
    missing(
        "sbd_path must hold train.txt", voc_segmentation, voc, ("aug",), voc / "sbd"
    )


def test_missing_image_and_mask_are_one_line(voc):
    data = voc_segmentation(voc, splits=("val",))
    (voc / "VOC2012/SegmentationClass" / data.masks[1].rpartition("/")[2]).unlink()
    missing(r"SegmentationClass/\*.png for all 2", voc_segmentation, voc, ("val",))
    (voc / "VOC2012/JPEGImages" / data.images[1].rpartition("/")[2]).unlink()
    missing(r"JPEGImages/\*.jpg for all 2", voc_segmentation, voc, ("val",))


def test_missing_town_and_mask_are_one_line(towns):
    missing(r"leftImg8bit/train/<city>", cityscapes_segmentation, towns / "absent")
    missing(r"split must be one of", cityscapes_segmentation, towns, split="test")
    shutil.rmtree(towns / "gtFine/train/bochum")
    missing(r"gtFine/train/.*such as bochum", cityscapes_segmentation, towns)


def test_empty_or_wrong_splits_are_one_line(voc):
    missing("splits must be a list of names", voc_segmentation, voc, splits="train")
    (voc / LISTS / "val.txt").write_text("\n")
    missing("must list images", voc_segmentation, voc, splits=("val",))
