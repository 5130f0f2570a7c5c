"""Datasets are read as they are published, and what is missing is named in one line."""

import json

import numpy as np
import pytest

from byol_keras import train  # noqa: F401, registers the root of the fragment
from byol_keras.data.published import (
    VOC_CLASSES,
    imagenet_folder,
    inaturalist2018,
    places205,
    voc_classification,
)

from support.datasets import (
    WNIDS,
    make_imagenet,
    make_inaturalist2018,
    make_places205,
    make_vocdevkit,
    numbers,
    write_jpeg,
    write_text,
)


def labels_read(data):
    return [example["label"].numpy().tolist() for example in data.ordered()]


# What all have in common.

MAKERS = {
    places205: (make_places205, (0, 1, 2, 3, 4, 5), (2, 0, 1, 2, 0, 1), (6, 7, 8)),
    inaturalist2018: (make_inaturalist2018, range(5), (1, 0, 2, 1, 0), (5, 6, 7)),
    imagenet_folder: (make_imagenet, range(6), (0, 0, 1, 1, 2, 2), (6, 7, 8)),
}
every_list = pytest.mark.parametrize("read", MAKERS, ids=lambda read: read.__name__)


@every_list
def test_images_and_labels_are_those_of_the_list_in_its_order(tmp_path, read):
    make, images, labels, val_images = MAKERS[read]
    folder = make(tmp_path)
    data, val = read(folder), read(folder, "val")
    assert numbers(data) == list(images)
    assert labels_read(data) == data.labels().tolist() == list(labels)
    assert numbers(val) == list(val_images)
    assert labels_read(val) == val.labels().tolist() == [0, 1, 2]
    assert data.class_names == val.class_names
    assert (data.num_examples, data.channels, data.image_size) == (
        len(images),
        3,
        None,
    )


@every_list
def test_names_are_relative_paths_of_the_files_in_stored_order(tmp_path, read):
    data = read(MAKERS[read][0](tmp_path), "val")
    found = {file.name: file for file in tmp_path.rglob("*.[jJ]*")}
    for name, number in zip(data.names, numbers(data), strict=True):
        assert found[name.rpartition("/")[2]].as_posix().endswith(f"/{name}")
        assert name.partition(".")[0].endswith(str(number))


@every_list
def test_digest_changes_when_a_file_does(tmp_path, read):
    make = MAKERS[read][0]
    before = read(make(tmp_path), "val").digest()
    assert read(tmp_path, "val").digest() == before
    data = read(tmp_path, "val")
    (file,) = tmp_path.rglob(data.names[0].rpartition("/")[2])
    write_jpeg(file, 200, height=40)
    assert read(tmp_path, "val").digest() != before


@every_list
def test_splits_are_train_and_val(read):
    with pytest.raises(ValueError, match=rf"{read.__name__}\.split must .*: 'test'"):
        read("absent", "test")


@every_list
def test_a_missing_image_is_counted_and_named(tmp_path, read):
    data = read(MAKERS[read][0](tmp_path, **flat(read)), "val")
    for name in data.names[1:]:
        (file,) = tmp_path.rglob(name.rpartition("/")[2])
        file.unlink()
    message = rf"{read.__name__}\.path must hold all .*without 2 of 3, such as .*"
    with pytest.raises(ValueError, match=message + data.names[1]) as error:
        read(tmp_path, "val")
    assert "\n" not in str(error.value)


def flat(read):
    """Arguments that make the validation images flat, with a list file."""
    return {"flat_val": True} if read is imagenet_folder else {}


@pytest.mark.parametrize(
    ("read", "files", "address"),
    [
        (places205, "train_places205.csv", "places.csail.mit.edu"),
        (inaturalist2018, "train2018.json", "github.com/visipedia/inat_comp"),
        (imagenet_folder, "train/<wnid>/*.JPEG", "image-net.org"),
        (
            voc_classification,
            "VOC2007/ImageSets/Main/aeroplane_trainval.txt",
            "host.robots.ox.ac.uk/pascal/VOC",
        ),
    ],
)
def test_a_missing_dataset_is_an_error_that_names_its_files(
    tmp_path, read, files, address
):
    for path, there in ((tmp_path, "without it"), (tmp_path / "no", "is no folder")):
        with pytest.raises(ValueError, match=there) as error:
            read(path)
        message = str(error.value)
        assert message.startswith(f"{read.__name__}.path must hold ")
        for part in (files, address, f"Received: {path}"):
            assert part in message
        assert "\n" not in message


@pytest.mark.parametrize("file", ["../secret.jpg", "a/../../secret.jpg", "{0}/s.jpg"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, file):
    folder = make_places205(tmp_path / "data")
    file = file.format(tmp_path)
    write_text(folder / "list.txt", ["a/abbey/gsun_1.jpg 0", f"{file} 1"])
    with pytest.raises(ValueError, match=r"stay below its folder. Received: ") as error:
        places205(folder, list_file=folder / "list.txt")
    assert file in str(error.value)


def test_a_path_that_leaves_the_folder_of_iNaturalist_is_refused(tmp_path):
    make_inaturalist2018(tmp_path)
    listing = tmp_path / "val2018.json"
    listing.write_text(listing.read_text().replace("train_val2018", ".."))
    with pytest.raises(ValueError, match=r"stay below its folder. Received: \.\./Aves"):
        inaturalist2018(tmp_path, "val")


# Places205


@pytest.mark.parametrize("separator", [" ", ";", "\t", ","])
@pytest.mark.parametrize("images", ["", "data/vision/torralba/deeplearning/images256"])
def test_places205_of_either_release_is_read(tmp_path, separator, images):
    data = places205(make_places205(tmp_path, separator, images), "train")
    assert data.labels().tolist() == [2, 0, 1, 2, 0, 1]
    assert data.class_names == ("abbey", "church/outdoor", "zoo")


def test_lists_of_places205_may_be_beside_the_images(tmp_path):
    make_places205(tmp_path, images="")
    listing = tmp_path / "trainvalsplit_places205/val_places205.csv"
    listing.rename(tmp_path / listing.name)
    assert numbers(places205(tmp_path, "val")) == [6, 7, 8]


def test_another_list_replaces_that_of_the_split(tmp_path):
    make_places205(tmp_path / "data")
    write_text(
        tmp_path / "some.txt", ["z/zoo/gsun_3.jpg 4", "", "a/abbey/gsun_1.jpg 0"]
    )
    data = places205(tmp_path / "data", list_file=tmp_path / "some.txt")
    assert numbers(data) == [3, 1]
    assert data.labels().tolist() == [4, 0]
    assert data.class_names == ("abbey", "1", "2", "3", "zoo")
    with pytest.raises(ValueError, match=r"list_file must be an existing .*/none.txt"):
        places205(tmp_path / "data", list_file=tmp_path / "none.txt")


@pytest.mark.parametrize("line", ["a/abbey/gsun_1.jpg", "a/abbey/gsun_1.jpg -1", "7"])
def test_a_malformed_line_is_named(tmp_path, line):
    write_text(tmp_path / "list.txt", ["a/abbey/gsun_1.jpg 0", line])
    with pytest.raises(ValueError, match=rf"'{line}' in line 2 of .*list\.txt"):
        places205(tmp_path, list_file=tmp_path / "list.txt")


def test_an_empty_list_is_refused(tmp_path):
    write_text(tmp_path / "val_places205.csv", [])
    with pytest.raises(ValueError, match=r"places205.path must hold a list of images"):
        places205(tmp_path, "val")


# iNaturalist 2018


def test_species_are_named_by_their_categories(tmp_path):
    data = inaturalist2018(make_inaturalist2018(tmp_path))
    assert data.class_names == ("species 0", "species 1", "species 2")


def test_labels_are_places_of_the_sorted_category_ids(tmp_path):
    listing = make_inaturalist2018(tmp_path) / "val2018.json"
    content = json.loads(listing.read_text())
    for item in content["categories"]:
        item["id"] *= 10
    for item in content["annotations"]:
        item["category_id"] *= 10
    listing.write_text(json.dumps(content))
    assert inaturalist2018(tmp_path, "val").labels().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"images": []}', "KeyError: 'categories'"),
        (
            '{"images": [{"id": 7, "file_name": "a.jpg"}], '
            '"annotations": [], "categories": []}',
            "KeyError: 7",
        ),
    ],
)
def test_a_broken_list_of_iNaturalist_is_named(tmp_path, content, reason):
    (tmp_path / "train2018.json").write_text(content)
    with pytest.raises(ValueError, match=r"train2018.json must be JSON ") as error:
        inaturalist2018(tmp_path)
    assert reason in str(error.value)


# ImageNet


def test_class_names_of_imagenet_are_its_wordnet_ids(tmp_path):
    assert imagenet_folder(make_imagenet(tmp_path)).class_names == WNIDS


@pytest.mark.parametrize("listing", ["val.txt", "meta/val.txt"])
def test_flat_validation_images_take_their_labels_from_the_list(tmp_path, listing):
    make_imagenet(tmp_path, flat_val=True)
    (tmp_path / "meta").mkdir()
    (tmp_path / "val.txt").rename(tmp_path / listing)
    data = imagenet_folder(tmp_path, "val")
    assert numbers(data) == [6, 7, 8]
    assert data.labels().tolist() == [2, 0, 1]
    assert data.class_names == WNIDS


def test_flat_validation_images_without_a_list_are_an_error_that_names_it(tmp_path):
    make_imagenet(tmp_path, flat_val=True)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(ValueError, match=r"must hold val.txt or meta/val.txt \(get it"):
        imagenet_folder(tmp_path, "val")


def test_validation_labels_count_the_classes_of_train(tmp_path):
    make_imagenet(tmp_path)
    (only,) = (tmp_path / "val" / WNIDS[0]).iterdir()
    only.unlink()
    only.parent.rmdir()
    data = imagenet_folder(tmp_path, "val")
    assert data.labels().tolist() == [1, 2]
    assert data.class_names == WNIDS


@pytest.mark.parametrize("flat_val", [False, True])
def test_validation_images_alone_are_enough(tmp_path, flat_val):
    make_imagenet(tmp_path, flat_val)
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    data = imagenet_folder(tmp_path, "val")
    assert data.labels().tolist() == ([2, 0, 1] if flat_val else [0, 1, 2])
    assert data.class_names == (("0", "1", "2") if flat_val else WNIDS)


def test_a_class_that_train_lacks_is_refused(tmp_path):
    write_jpeg(make_imagenet(tmp_path) / "val/n00000000/1.JPEG", 9)
    with pytest.raises(ValueError, match=r"classes of train only.* with n00000000"):
        imagenet_folder(tmp_path, "val")


def test_a_label_that_train_lacks_is_refused(tmp_path):
    make_imagenet(tmp_path, flat_val=True)
    write_text(tmp_path / "val.txt", ["ILSVRC2012_val_00000006.JPEG 3"])
    with pytest.raises(ValueError, match=r"labels below 3, .*Received: 3 in "):
        imagenet_folder(tmp_path, "val")


# PASCAL VOC


def test_voc_has_the_twenty_classes_of_the_challenge():
    assert len(VOC_CLASSES) == 20
    assert sorted(VOC_CLASSES) == list(VOC_CLASSES)
    assert VOC_CLASSES[::5] == ("aeroplane", "bus", "diningtable", "pottedplant")


@pytest.mark.parametrize("inside", [False, True])
def test_voc_labels_are_1_0_and_minus_1_for_difficult(tmp_path, inside):
    make_vocdevkit(tmp_path, num_images=4)
    data = voc_classification(tmp_path / "VOCdevkit" if inside else tmp_path)
    expected = np.zeros((4, 20), np.int64)
    for image in range(4):
        expected[image, image : image + 3] = 1, 1, -1
    assert data.labels().dtype == np.int64
    np.testing.assert_array_equal(data.labels(), expected)
    np.testing.assert_array_equal(labels_read(data), expected)
    assert data.class_names == VOC_CLASSES


def test_voc_images_are_in_the_order_of_the_lists(tmp_path):
    make_vocdevkit(tmp_path, num_images=4)
    assert numbers(voc_classification(tmp_path)) == [0, 1, 2, 3]
    data = voc_classification(tmp_path, split="test")
    assert numbers(data) == [4, 5, 6, 7]
    assert data.names[0] == "JPEGImages/000004.jpg"


@pytest.mark.parametrize("year", ["2012", 2012])
def test_voc_is_read_from_the_given_year(tmp_path, year):
    make_vocdevkit(tmp_path, "2012", splits=("train",), num_images=2)
    assert voc_classification(tmp_path, year, "train").num_examples == 2
    with pytest.raises(ValueError, match=r"VOC2007/ImageSets/Main/aeroplane_train.txt"):
        voc_classification(tmp_path, split="train")


def test_voc_lists_of_different_images_are_refused(tmp_path):
    make_vocdevkit(tmp_path, num_images=2)
    listing = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/cat_trainval.txt"
    write_text(listing, ["000001 -1", "000000 -1"])
    with pytest.raises(ValueError, match=r"cat_.* the images of aeroplane_trainval"):
        voc_classification(tmp_path)


def test_a_malformed_line_of_voc_is_named(tmp_path):
    make_vocdevkit(tmp_path, num_images=2)
    listing = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/cat_trainval.txt"
    write_text(listing, ["000000 -1", "000001 2"])
    with pytest.raises(ValueError, match=r"1, -1 or 0. Received: '000001 2' in line 2"):
        voc_classification(tmp_path)


def test_a_missing_voc_image_is_named(tmp_path):
    make_vocdevkit(tmp_path, num_images=2)
    (tmp_path / "VOCdevkit/VOC2007/JPEGImages/000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"without 1 of 2, such as JPEGImages/000001"):
        voc_classification(tmp_path)
