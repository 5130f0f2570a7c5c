"""Detection data in the published layouts; bad annotations are counted."""

import io
import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from byol_keras.benchmarks.detection import batches
from byol_keras.benchmarks.detection.batches import decode_image
from byol_keras.benchmarks.detection.dataset import coco_detection, voc_detection
from byol_keras.benchmarks.detection.masks import bitmap

from support.scenes import COCO_IDS, make_scenes, voc_xml, write_coco, write_vocdevkit

SCENES = make_scenes(6, seed=1)


@pytest.fixture
def voc(tmp_path):
    splits = {"trainval": SCENES[:3], "test": SCENES[3:5]}
    write_vocdevkit(tmp_path, {"2007": splits, "2012": {"trainval": SCENES[5:]}})
    return tmp_path


@pytest.fixture
def coco(tmp_path):
    write_coco(tmp_path, {"train2017": SCENES})
    return tmp_path


def edit_json(folder, change):
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def assert_is_scene(example, scene):
    np.testing.assert_array_equal(example.boxes, scene.boxes)
    np.testing.assert_array_equal(example.labels, scene.labels)
    np.testing.assert_array_equal(example.difficult, scene.difficult)
    assert (example.height, example.width) == scene.semantic.shape


# VOC.


def test_voc_of_two_years_is_read_in_the_order_of_the_lists(voc):
    data = voc_detection(voc)
    assert [x.image_id for x in data.examples] == [
        "000001",
        "000002",
        "000003",
        "2008_000001",
    ]
    for example, scene in zip(data.examples, [*SCENES[:3], SCENES[5]], strict=True):
        assert_is_scene(example, scene)
        assert example.masks is None
    assert data.bad == []
    assert data.class_names[:3] == ("aeroplane", "bicycle", "bird")
    assert len(data.class_names) == 20


def test_voc_is_found_in_a_subfolder_vocdevkit(voc):
    (voc / "VOCdevkit").mkdir()
    (voc / "VOC2007").rename(voc / "VOCdevkit" / "VOC2007")
    data = voc_detection(voc, splits=[("2007", "test")])
    assert_is_scene(data.examples[1], SCENES[4])


def test_voc_box_of_the_whole_image_ends_at_its_size(voc):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    change_first_box(path, xmin=1, ymin=1, xmax=128, ymax=96)
    box = voc_detection(voc).examples[0].boxes[0]
    np.testing.assert_array_equal(box, [0, 0, 96, 128])


def test_voc_box_beyond_the_image_is_clipped_and_counted(voc):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    change_first_box(path, xmin=-20, ymin=11, xmax=500, ymax=30)
    data = voc_detection(voc)
    np.testing.assert_array_equal(data.examples[0].boxes[0], [10, 0, 30, 128])
    assert len(data.bad) == 1
    assert "000001.xml" in data.bad[0]
    assert "clipped" in data.bad[0]


@pytest.mark.parametrize(
    "box",
    [
        {"xmin": 30, "ymin": 11, "xmax": 29, "ymax": 30},
        {"xmin": 200, "ymin": 11, "xmax": 220, "ymax": 30},
        {"xmin": "nan", "ymin": 11, "xmax": 30, "ymax": 30},
        {"xmin": "left", "ymin": 11, "xmax": 30, "ymax": 30},
    ],
    ids=["no area", "outside", "not finite", "no number"],
)
def test_voc_box_without_area_is_left_out_and_counted(voc, box):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    change_first_box(path, **box)
    data = voc_detection(voc)
    assert len(data.examples[0].labels) == len(SCENES[0].labels) - 1
    assert len(data.bad) == 1


def test_voc_object_of_unknown_class_is_left_out_and_counted(voc):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    path.write_text(path.read_text().replace("<name>", "<name>un", 1))
    data = voc_detection(voc)
    np.testing.assert_array_equal(data.examples[0].labels, SCENES[0].labels[1:])
    assert len(data.bad) == 1
    assert "unknown class" in data.bad[0]


def test_parts_of_an_object_are_not_read_as_objects(voc):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    part = (
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
    )
    path.write_text(path.read_text().replace("</object>", part, 1))
    data = voc_detection(voc)
    assert_is_scene(data.examples[0], SCENES[0])
    assert data.bad == []


@pytest.mark.parametrize(
    "harm",
    ["xml", "no xml", "xml pipe", "encoding", "image", "no image", "image pipe"],
)
def test_voc_image_that_cannot_be_read_is_left_out_and_counted(voc, harm):
    xml = voc / "VOC2007" / "Annotations" / "000002.xml"
    image = voc / "VOC2007" / "JPEGImages" / "000002.jpg"
    if harm == "xml":
        xml.write_text("<annotation><object>")
    elif harm == "encoding":
        xml.write_text('<?xml version="1.0" encoding="none"?><annotation/>')
    elif harm == "no xml":
        xml.unlink()
    elif harm == "image":
        image.write_bytes(b"no image")
    elif harm == "no image":
        image.unlink()
    else:
        pipe = image if harm == "image pipe" else xml
        pipe.unlink()
        os.mkfifo(pipe)
    data = voc_detection(voc)
    assert [x.image_id for x in data.examples] == ["000001", "000003", "2008_000001"]
    assert len(data.bad) == 1
    assert "000002" in data.bad[0]


@pytest.mark.parametrize(
    ("size", "replacement"),
    [
        (r"<size>.*</size>", ""),
        (r"<width>128", "<width>0"),
        (r"<width>128</width><height>96", "<width>0</width><height>0"),
        (r"<height>96</height>", ""),
    ],
)
def test_voc_size_that_is_missing_is_read_from_the_file(voc, size, replacement):
    xml = voc / "VOC2007" / "Annotations" / "000002.xml"
    text, count = re.subn(size, replacement, xml.read_text())
    assert count == 1
    xml.write_text(text)
    data = voc_detection(voc)
    assert data.bad == []
    assert_is_scene(data.examples[1], SCENES[1])


def test_image_of_another_size_than_its_annotation_is_left_out(voc, coco):
    for path in ("VOC2007/JPEGImages/000002.jpg", f"train2017/{107:012}.jpg"):
        Image.fromarray(np.zeros((128, 96, 3), np.uint8)).save(voc / path)
    line = "left out, the annotation is of 128 x 96 pixels, the file of 96 x 128"
    for data in (voc_detection(voc), coco_detection(coco)):
        assert len(data.bad) == 1
        assert line in data.bad[0]
    assert [x.image_id for x in data.examples] == [100, 114, 121, 128, 135]


def test_difficult_objects_are_marked_whether_they_are_trained_on_or_not(voc):
    scene = SCENES[0]._replace(difficult=np.arange(len(SCENES[0].labels)) == 1)
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    path.write_text(voc_xml(scene, "000001"))
    for keep in (False, True):
        data = voc_detection(voc, keep_difficult=keep)
        assert data.trains_difficult is keep
        assert data.examples[0].difficult.tolist() == [False, True, False, False]


# COCO.


def test_coco_is_read_with_its_masks_and_crowds(coco):
    data = coco_detection(coco)
    assert data.bad == []
    assert data.class_names == ("person", "bicycle", "car")
    assert data.category_ids == COCO_IDS[:3]
    for number, (example, scene) in enumerate(zip(data.examples, SCENES, strict=True)):
        assert example.image_id == 100 + 7 * number
        assert_is_scene(example, scene)
        for segmentation, mask in zip(example.masks, scene.masks, strict=True):
            read = bitmap(segmentation, *mask.shape)
            assert np.mean(read == mask) > 0.999


def test_both_codes_of_masks_are_among_the_scenes(coco):
    kinds = {type(m) for x in coco_detection(coco).examples for m in x.masks}
    assert kinds == {list, dict}


@pytest.mark.parametrize("kind", [str, float])
def test_ids_of_other_types_give_the_same_data(coco, kind):
    def change(content):
        for item in content["annotations"]:
            item["image_id"] = kind(item["image_id"])
            item["category_id"] = kind(item["category_id"])
            item["iscrowd"] = kind(item["iscrowd"])

    expected = coco_detection(coco)
    edit_json(coco, change)
    data = coco_detection(coco)
    assert data.bad == expected.bad
    for example, other in zip(data.examples, expected.examples, strict=True):
        np.testing.assert_array_equal(example.boxes, other.boxes)
        np.testing.assert_array_equal(example.labels, other.labels)
        np.testing.assert_array_equal(example.difficult, other.difficult)


def test_images_that_share_an_id_are_left_out(coco):
    def change(content):
        content["images"][1]["id"] = content["images"][0]["id"]

    count = len(coco_detection(coco).examples)
    edit_json(coco, change)
    data = coco_detection(coco)
    assert len(data.examples) == count - 2
    assert sum("no id of its own" in line for line in data.bad) == 2


def test_categories_that_share_an_id_are_refused(coco):
    def change(content):
        content["categories"].append(content["categories"][0] | {"name": "other"})

    edit_json(coco, change)
    with pytest.raises(ValueError, match="categories with equal ids"):
        coco_detection(coco)


def test_xml_of_another_content_is_left_out(voc):
    path = voc / "VOC2007" / "Annotations" / "000001.xml"
    text = path.read_text()
    path.write_text(text.replace("annotation>", "annotations>"))
    data = voc_detection(voc)
    assert any("root is annotations, not annotation" in line for line in data.bad)


def test_coco_image_without_objects_is_kept(coco):
    def drop(content):
        content["annotations"] = [
            item for item in content["annotations"] if item["image_id"] != 107
        ]

    edit_json(coco, drop)
    example = coco_detection(coco).examples[1]
    assert example.boxes.shape == (0, 4)
    assert example.masks == []


@pytest.mark.parametrize(
    "change",
    [
        {"category_id": 4},
        {"bbox": [3, 3, 0, 10]},
        {"bbox": [3, 3, 10]},
        {"bbox": [500, 3, 10, 10]},
        {"bbox": None},
        {"bbox": [3, 3, "wide", 10]},
    ],
    ids=str,
)
def test_bad_coco_annotation_is_left_out_and_counted(coco, change):
    edit_json(coco, lambda content: content["annotations"][0].update(change))
    data = coco_detection(coco)
    np.testing.assert_array_equal(data.examples[0].labels, SCENES[0].labels[1:])
    assert len(data.examples[0].masks) == len(SCENES[0].labels) - 1
    assert len(data.bad) == 1
    assert "annotation 1000 of image 100" in data.bad[0]


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 1, 2, 2]],
        {"size": [2, 2], "counts": [4]},
        {"size": [96, 128], "counts": [4]},
        [["a", "b", "c", "d", "e", "f"]],
        "mask",
        7,
    ],
    ids=str,
)
def test_object_with_an_unusable_mask_keeps_its_box(coco, mask):
    edit_json(coco, lambda content: content["annotations"][0].update(segmentation=mask))
    data = coco_detection(coco)
    assert_is_scene(data.examples[0], SCENES[0])
    assert [mask is None for mask in data.examples[0].masks] == [True] + [False] * 3
    (line,) = data.bad
    assert line.startswith("annotation 1000 of image 100: without its mask, ")


@pytest.mark.parametrize("mask", [[], None, {}, "no key"], ids=str)
def test_objects_without_masks_keep_their_boxes_in_one_line(coco, mask, caplog):
    def remove(content):
        for item in content["annotations"]:
            if mask == "no key":
                del item["segmentation"]
            else:
                item["segmentation"] = mask

    edit_json(coco, remove)
    data = coco_detection(coco)
    for example, scene in zip(data.examples, SCENES, strict=True):
        assert_is_scene(example, scene)
        assert example.masks == [None] * len(scene.labels)
    total = sum(len(scene.labels) for scene in SCENES)
    assert data.bad == [
        f"{total} objects without a mask, of which only the boxes count"
    ]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("sides", [{}, {"height": 0, "width": 0}, {"width": 128}])
def test_coco_size_that_is_missing_is_read_from_the_file(coco, sides):
    def change(content):
        image = content["images"][0]
        content["images"][0] = {k: image[k] for k in ("id", "file_name")} | sides

    edit_json(coco, change)
    data = coco_detection(coco)
    assert data.bad == []
    assert_is_scene(data.examples[0], SCENES[0])


@pytest.mark.parametrize("kind", ["jpeg header", "before scan", "png cut", "png byte"])
def test_image_that_cannot_be_decoded_is_left_out_of_coco(coco, kind):
    path = coco / "train2017" / f"{107:012}.jpg"
    jpeg, png = path.read_bytes(), io.BytesIO()
    Image.open(path).save(png, "png")
    png = png.getvalue()
    damaged = {
        "jpeg header": b"\xff\xd8\xff\xe0" + bytes(100),
        "before scan": jpeg[: jpeg.index(b"\xff\xda")],
        "png cut": png[: len(png) // 2],
        "png byte": png[:100] + bytes([png[100] ^ 255]) + png[101:],
    }
    path.write_bytes(damaged[kind])
    data = coco_detection(coco)
    assert [x.image_id for x in data.examples] == [100, 114, 121, 128, 135]
    (line,) = data.bad
    assert f"left out, no readable image at {path}" in line
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(damaged[kind])


def test_jpeg_with_further_pictures_is_read(coco):
    path = coco / "train2017" / f"{107:012}.jpg"
    picture = Image.open(path).copy()
    picture.save(path, "mpo", save_all=True, append_images=[picture])
    assert coco_detection(coco).bad == []
    assert decode_image(path.read_bytes()).shape == (96, 128, 3)


@pytest.mark.parametrize("fmt", ["jpeg", "png"])
@pytest.mark.parametrize("of_stored", [True, False])
@pytest.mark.parametrize("number", [1, 2, 6])
def test_annotation_decides_whether_its_image_is_turned(coco, number, of_stored, fmt):
    path = coco / "train2017" / f"{107:012}.jpg"
    exif = Image.Exif()
    exif[0x0112] = number
    Image.open(path).copy().save(path, fmt, exif=exif)
    is_stored = of_stored or number < 5
    width, height = (128, 96) if is_stored else (96, 128)

    def change(content):
        for image in content["images"]:
            if image["id"] == 107:
                image |= {"width": width, "height": height}

    edit_json(coco, change)
    data = coco_detection(coco)
    example = data.examples[1]
    assert example.image_id == 107
    assert (example.height, example.width) == (height, width)
    with Image.open(path) as stored:
        turned = (
            stored if is_stored and number == 6 else ImageOps.exif_transpose(stored)
        )
        expected = np.asarray(turned)
    found = decode_image(path.read_bytes(), example.orientation).numpy()
    assert found.shape == expected.shape
    # TensorFlow's faster transform of JPEG differs from Pillow's by rounding.
    assert np.abs(found - expected.astype(float)).mean() <= (
        1.0 if fmt == "jpeg" else 0.0
    )
    for batch in batches.test_batches(data, image_size=(128, 128), short_side=width):
        if int(batch["place"][0]) == 1:
            assert batch["image_info"][0, 0].numpy().tolist() == [height, width]


@pytest.mark.parametrize("fmt", ["gif", "bmp", "webp", "tiff"])
def test_other_formats_are_left_out_of_coco(coco, fmt):
    path = coco / "train2017" / f"{107:012}.jpg"
    Image.open(path).copy().save(path, fmt)
    (line,) = coco_detection(coco).bad
    assert f"left out, no readable image at {path}" in line


@pytest.mark.parametrize("fmt", ["jpeg", "png"])
def test_every_image_that_is_kept_can_be_decoded(coco, fmt):
    path = coco / "train2017" / f"{107:012}.jpg"
    whole = io.BytesIO()
    Image.open(path).save(whole, fmt)
    whole = whole.getvalue()
    for length in (*range(0, len(whole), len(whole) // 25), len(whole)):
        path.write_bytes(whole[:length])
        if any(x.image_path == str(path) for x in coco_detection(coco).examples):
            assert decode_image(path.read_bytes()).shape == (96, 128, 3)


def test_object_without_area_counts_as_not_found(coco):
    change = {"bbox": [3, 3, 0, 10]}
    edit_json(coco, lambda content: content["annotations"][0].update(change))
    data = coco_detection(coco)
    assert data.examples[0].lost == (SCENES[0].labels[0],)
    assert "not trained on, a box without area" in data.bad[0]


def test_coco_box_beyond_the_image_is_clipped_and_counted(coco):
    change = {"bbox": [-5, 10, 1000, 20]}
    edit_json(coco, lambda content: content["annotations"][0].update(change))
    data = coco_detection(coco)
    np.testing.assert_array_equal(data.examples[0].boxes[0], [10, 0, 30, 128])
    np.testing.assert_array_equal(data.examples[0].true_boxes[0], [10, -5, 30, 995])
    assert len(data.bad) == 1


def test_a_hundredth_of_a_pixel_beyond_the_image_is_not_counted(coco):
    change = {"bbox": [100, 10, 28.01, 20]}
    edit_json(coco, lambda content: content["annotations"][0].update(change))
    data = coco_detection(coco)
    np.testing.assert_array_equal(data.examples[0].boxes[0], [10, 100, 30, 128])
    assert data.bad == []


def test_coco_image_that_is_missing_is_left_out_and_counted(coco):
    (coco / "train2017" / f"{107:012}.jpg").unlink()
    data = coco_detection(coco)
    assert [x.image_id for x in data.examples] == [100, 114, 121, 128, 135]
    assert len(data.bad) == 1
    assert "107" in data.bad[0]


def test_coco_objects_of_no_image_are_counted(coco):
    edit_json(coco, lambda content: content["annotations"][0].update(image_id=5))
    data = coco_detection(coco)
    assert len(data.bad) == 1
    assert "image 5" in data.bad[0]


def test_byte_order_mark_of_a_list_is_no_part_of_it(voc, coco):
    for path in (
        voc / "VOC2007" / "ImageSets" / "Main" / "trainval.txt",
        coco / "annotations" / "instances_train2017.json",
    ):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert voc_detection(voc).bad == coco_detection(coco).bad == []


# What ends a run, in one line.


@pytest.mark.parametrize("file", ["../secret.jpg", "/etc/secret.jpg", "..\\x.jpg"])
def test_path_that_leaves_the_folder_is_refused(coco, voc, file):
    edit_json(coco, lambda content: content["images"][0].update(file_name=file))
    with pytest.raises(ValueError, match="below its folder"):
        coco_detection(coco)
    listing = voc / "VOC2007" / "ImageSets" / "Main" / "trainval.txt"
    listing.write_text(file.removesuffix(".jpg"))
    with pytest.raises(ValueError, match="below its folder"):
        voc_detection(voc)


def test_missing_files_are_named_with_their_place_and_source(tmp_path):
    with pytest.raises(
        ValueError, match=r"path must hold VOC2007/ImageSets/Main/trainval.txt or .*VOC"
    ):
        voc_detection(tmp_path)
    with pytest.raises(
        ValueError, match=r"annotations/instances_val2017.json \(get it from cocodat"
    ):
        coco_detection(tmp_path, "val2017")


def test_data_without_any_readable_image_are_refused(coco):
    for path in (coco / "train2017").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="must hold readable images") as info:
        coco_detection(coco)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"images": []}',
        '{"images": [3], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [3], "categories": []}',
    ],
)
def test_file_in_another_format_than_coco_is_refused(tmp_path, content):
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match="must be JSON of images, annotations"):
        coco_detection(tmp_path, "val2017")


def test_split_that_is_no_pair_is_refused(voc):
    with pytest.raises(ValueError, match="must be pairs of year and split"):
        voc_detection(voc, splits=("2007", "test"))


def change_first_box(path, **edges):
    text = path.read_text()
    start, stop = text.index("<bndbox>"), text.index("</bndbox>")
    inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges.items())
    path.write_text(f"{text[:start]}<bndbox>{inner}{text[stop:]}")


def test_digest_changes_with_a_box_and_is_the_same_for_the_same_files(voc):
    before, again = voc_detection(voc).digest(), voc_detection(voc).digest()
    annotation = next((voc / "VOC2007/Annotations").iterdir())
    text = annotation.read_text()
    xmin = re.search(r"<xmin>(\d+)</xmin>", text)
    moved = f"<xmin>{int(xmin[1]) + 1}</xmin>"
    annotation.write_text(text.replace(xmin[0], moved, 1))
    assert before == again != voc_detection(voc).digest()
