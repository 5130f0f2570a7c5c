"""Batches of detection: images, boxes and masks are resized and flipped together."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks.detection import batches
from byol_keras.benchmarks.detection.dataset import coco_detection, voc_detection

from support.scenes import make_scenes, write_coco, write_vocdevkit

SIZE = (96, 128)
SCENES = [
    scene._replace(difficult=np.arange(len(scene.labels)) == 2)
    for scene in make_scenes(6, SIZE, seed=1)
]
SMALL = {"image_size": (128, 160), "short_sides": (96,)}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder, {"train2017": SCENES})
    return coco_detection(folder)


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def files(data, batch_list):
    """The place of each image, found by the centers of its boxes in the file."""
    centres = {}
    for place, example in enumerate(data.examples):
        keep = ~example.difficult
        centres[middles(example.boxes[keep]).tobytes()] = place
    found = []
    for batch in batch_list:
        for info, boxes in zip(batch["image_info"], batch["boxes"], strict=True):
            boxes = boxes[boxes[:, 0] >= 0]
            found.append(centres[middles(boxes / np.tile(info[2], 2)).tobytes()])
    return found


def middles(boxes):
    """Centers of the rows, which flips do not change, in whole pixels."""
    return (boxes[:, 0] + boxes[:, 2]).round().astype(np.int32)


def test_shapes_and_types_are_those_documented_and_static(coco):
    dataset = batches.training_batches(coco, 2, (128, 160), (64,), mask_size=14)
    spec = dataset.element_spec
    assert {k: (tuple(v.shape), v.dtype.name) for k, v in spec.items()} == {
        "key": ((2, 2), "int64"),
        "image": ((2, 128, 160, 3), "float32"),
        "image_info": ((2, 4, 2), "float32"),
        "boxes": ((2, 100, 4), "float32"),
        "classes": ((2, 100), "int32"),
        "masks": ((2, 100, 14, 14), "float32"),
    }
    spec = batches.test_batches(coco, 2, (128, 160)).element_spec
    assert {k: (tuple(v.shape), v.dtype.name) for k, v in spec.items()} == {
        "image": ((2, 128, 160, 3), "float32"),
        "image_info": ((2, 4, 2), "float32"),
        "place": ((2,), "int64"),
    }


def test_unscaled_image_is_the_file_at_the_top_left_of_zeros(coco):
    (batch,) = take(batches.test_batches(coco, 1, (128, 160), short_side=96), 1)
    file = tf.io.decode_jpeg(tf.io.read_file(coco.examples[0].image_path)).numpy()
    np.testing.assert_allclose(batch["image"][0, :96, :128], file / 255, atol=1e-6)
    assert not batch["image"][0, 96:].any()
    assert not batch["image"][0, :, 128:].any()
    expected = [[96, 128], [96, 128], [1, 1], [0, 0]]
    np.testing.assert_array_equal(batch["image_info"][0], expected)


def test_padding_has_the_given_color(coco):
    color = (0.5, 0.25, 0.75)
    dataset = batches.test_batches(coco, 1, (128, 160), 96, padding_color=color)
    (batch,) = take(dataset, 1)
    np.testing.assert_allclose(batch["image"][0, 100, 3], color)
    plain = take(batches.test_batches(coco, 1, (128, 160), 96), 1)[0]
    np.testing.assert_allclose(
        batch["image"][0, :96, :128], plain["image"][0, :96, :128], atol=1e-6
    )


@pytest.mark.parametrize(
    ("short_side", "max_long_side", "canvas", "expected"),
    [
        (48, 1000, (128, 160), (48, 64)),
        (120, 1000, (128, 160), (120, 160)),
        (120, 100, (128, 160), (75, 100)),  # the longer side is the limit
        (120, 1000, (60, 160), (60, 80)),  # the canvas is
        (120, 1000, (128, 40), (30, 40)),
        (50, 1000, (128, 160), (50, 67)),  # 66.67
    ],
)
def test_short_side_is_reached_unless_the_long_side_or_the_canvas_limits_it(
    coco, short_side, max_long_side, canvas, expected
):
    dataset = batches.test_batches(coco, 1, canvas, short_side, max_long_side)
    info = take(dataset, 1)[0]["image_info"][0]
    np.testing.assert_array_equal(info[:2], [SIZE, expected])
    np.testing.assert_allclose(info[2], np.array(expected) / SIZE)


def test_boxes_are_scaled_with_the_image_and_classes_start_at_1(coco):
    dataset = batches.training_batches(coco, 3, (256, 256), (144,), flip=False)
    for batch in take(dataset, 2):
        for i, place in enumerate(files(coco, [batch])):
            example = coco.examples[place]
            keep = ~example.difficult
            count = keep.sum()
            scaled = 1.5 * example.boxes[keep]
            np.testing.assert_allclose(batch["boxes"][i, :count], scaled)
            np.testing.assert_array_equal(
                batch["classes"][i, :count], example.labels[keep] + 1
            )
            assert (batch["boxes"][i, count:] == -1).all()
            assert (batch["classes"][i, count:] == -1).all()


def test_flips_move_image_boxes_and_masks_together(coco):
    options = SMALL | {"mask_size": 28}
    flipped = 0
    plain = take(batches.training_batches(coco, 1, flip=False, **options), 12)
    mirrored = take(batches.training_batches(coco, 1, **options), 12)
    for a, b in zip(plain, mirrored, strict=True):
        count = (a["classes"] > 0).sum()
        boxes, masks = a["boxes"][0, :count], a["masks"][0, :count]
        image = a["image"][0, :96, :128]
        if not np.array_equal(a["image"], b["image"]):
            flipped += 1
            image, masks = image[:, ::-1], masks[..., ::-1]
            ymin, xmin, ymax, xmax = boxes.T
            boxes = np.stack([ymin, 128 - xmax, ymax, 128 - xmin], axis=1)
        np.testing.assert_allclose(b["image"][0, :96, :128], image)
        np.testing.assert_allclose(b["boxes"][0, :count], boxes)
        np.testing.assert_array_equal(b["masks"][0, :count], masks)
    assert 2 < flipped < 10


def test_short_sides_are_all_drawn(coco):
    dataset = batches.training_batches(coco, 4, (128, 160), (48, 72, 96))
    heights = [info[1, 0] for batch in take(dataset, 6) for info in batch["image_info"]]
    assert set(heights) == {48, 72, 96}


def test_each_pass_has_every_image_once_in_a_new_order(coco):
    places = files(coco, take(batches.training_batches(coco, 3, **SMALL), 4))
    assert sorted(places[:6]) == sorted(places[6:]) == [0, 1, 2, 3, 4, 5]
    assert places[:6] != places[6:]


def test_start_skips_the_images_of_an_earlier_process(coco):
    options = SMALL | {"seed": 3, "mask_size": 7}
    whole = take(batches.training_batches(coco, 2, **options), 5)
    rest = take(batches.training_batches(coco, 2, start=6, **options), 2)
    for a, b in zip(whole[3:], rest, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_each_image_of_each_pass_has_a_different_key(coco):
    keys = [
        tuple(key)
        for seed in (0, 1)
        for batch in take(batches.training_batches(coco, 3, seed=seed, **SMALL), 4)
        for key in batch["key"].tolist()
    ]
    assert len(set(keys)) == 24


def test_another_seed_gives_another_order(coco):
    one, other = (
        files(coco, take(batches.training_batches(coco, 6, seed=seed, **SMALL), 1))
        for seed in (0, 1)
    )
    assert one != other


def test_crowds_are_left_out_of_training(coco):
    (batch,) = take(batches.training_batches(coco, 6, **SMALL), 1)
    counts = [(~scene.difficult).sum() for scene in SCENES]
    assert sum(scene.difficult.sum() for scene in SCENES) > 2
    assert (batch["classes"] > 0).sum() == sum(counts)


@pytest.mark.parametrize("keep", [False, True])
def test_difficult_objects_of_voc_are_trained_on_if_kept(tmp_path, keep):
    write_vocdevkit(tmp_path, {"2007": {"trainval": SCENES}})
    data = voc_detection(tmp_path, (("2007", "trainval"),), keep_difficult=keep)
    (batch,) = take(batches.training_batches(data, 6, **SMALL), 1)
    expected = sum((keep | ~scene.difficult).sum() for scene in SCENES)
    assert (batch["classes"] > 0).sum() == expected
    assert "masks" not in batch


def test_objects_beyond_max_boxes_are_left_out(coco):
    (batch,) = take(batches.training_batches(coco, 6, max_boxes=1, **SMALL), 1)
    assert batch["boxes"].shape == (6, 1, 4)
    assert (batch["classes"] > 0).all()


def test_images_without_objects_are_left_out_of_training_only(coco):
    first = coco.examples[0]._replace(difficult=np.ones(len(SCENES[0].labels), bool))
    data = replaced(coco, [first, *coco.examples[1:]])
    places = files(coco, take(batches.training_batches(data, 5, **SMALL), 2))
    assert sorted(places[:5]) == sorted(places[5:]) == [1, 2, 3, 4, 5]
    assert len(take(batches.test_batches(data, 1, (64, 64)), 9)) == 6


def test_masks_pasted_into_their_boxes_are_the_masks_of_the_scene(coco):
    (batch,) = take(
        batches.training_batches(coco, 6, mask_size=56, flip=False, **SMALL), 1
    )
    for i, place in enumerate(files(coco, [batch])):
        scene = SCENES[place]
        masks = scene.masks[~scene.difficult]
        assert (batch["masks"][i, len(masks) :] == -1).all()
        for number, mask in enumerate(masks):
            small = batch["masks"][i, number]
            box = batch["boxes"][i, number].astype(int)
            ymin, xmin, ymax, xmax = box
            inside = mask[ymin:ymax, xmin:xmax]
            resized = tf.image.resize(small[..., None], inside.shape)[..., 0] > 0.5
            assert np.mean(resized == inside) > 0.95


def test_test_batches_have_all_images_in_order_and_fill_the_last_batch(coco):
    found = take(batches.test_batches(coco, 4, (64, 64)), 9)
    assert [batch["place"].tolist() for batch in found] == [
        [0, 1, 2, 3],
        [4, 5, -1, -1],
    ]
    for batch in found:
        assert np.isfinite(batch["image_info"]).all()


def test_original_boxes_are_in_pixels_of_the_file(coco):
    (batch,) = take(batches.test_batches(coco, 1, (300, 300), 200), 1)
    info, boxes = batch["image_info"][0], coco.examples[0].boxes
    on_canvas = boxes * np.tile(info[2], 2)
    np.testing.assert_allclose(
        batches.original_boxes(on_canvas, info), boxes, rtol=1e-6
    )
    beyond = batches.original_boxes([[-5, -5, 999, 999]], info)
    np.testing.assert_array_equal(beyond, [[0, 0, *SIZE]])


def test_truncated_gray_and_png_images_are_read(coco, tmp_path):
    file = tf.io.read_file(coco.examples[0].image_path)
    image = tf.io.decode_jpeg(file)
    contents = {
        "broken": file.numpy()[: len(file.numpy()) // 2],
        "grey": tf.io.encode_jpeg(image[..., :1]).numpy(),
        "png": tf.io.encode_png(image).numpy(),
    }
    examples = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        examples.append(coco.examples[0]._replace(image_path=str(tmp_path / name)))
    found = take(batches.test_batches(replaced(coco, examples), 1, (96, 128), 96), 9)
    whole = image.numpy() / 255
    np.testing.assert_allclose(found[0]["image"][0, :24], whole[:24], atol=1e-6)
    np.testing.assert_allclose(found[2]["image"][0], whole, atol=1e-6)
    assert np.ptp(found[1]["image"][0], axis=-1).max() == 0


@pytest.mark.parametrize(("short_side", "max_long_side"), [(150, 999), (150, 180)])
def test_image_and_its_info_equal_those_of_the_model_garden(
    coco, short_side, max_long_side
):
    ops = pytest.importorskip("official.vision.ops.preprocess_ops")
    canvas = (192, 224)
    dataset = batches.test_batches(coco, 1, canvas, short_side, max_long_side)
    (batch,) = take(dataset, 1)
    file = tf.io.decode_jpeg(tf.io.read_file(coco.examples[0].image_path))
    image, info = ops.resize_and_crop_image_v2(
        tf.cast(file, tf.float32) / 255, short_side, max_long_side, canvas
    )
    np.testing.assert_allclose(batch["image"][0], image, atol=1e-6)
    np.testing.assert_allclose(batch["image_info"][0], info)


def test_masks_of_objects_without_one_are_padding(coco):
    example = next(x for x in coco.examples if (~x.difficult).sum() > 1)
    without = example._replace(masks=[None, *example.masks[1:]])
    options = SMALL | {"mask_size": 14, "flip": False}
    for changed, padded in ((example, False), (without, True)):
        data = replaced(coco, [changed])
        (batch,) = take(batches.training_batches(data, 1, **options), 1)
        assert (batch["masks"][0, 0] == -1).all() == padded
        assert set(np.unique(batch["masks"][0, 1])) <= {0, 1}
        assert batch["classes"][0, 0] == example.labels[0] + 1


# Mistakes.


def test_mask_size_is_refused_for_data_without_masks(coco):
    data = replaced(coco, [x._replace(masks=None) for x in coco.examples])
    with pytest.raises(ValueError, match="must be None for data without masks"):
        batches.training_batches(data, 2, mask_size=28)


def test_data_without_an_object_to_train_on_are_refused(coco):
    crowds = [x._replace(difficult=~np.zeros_like(x.difficult)) for x in coco.examples]
    with pytest.raises(ValueError, match="an object to train on"):
        batches.training_batches(replaced(coco, crowds), 2)


def test_no_short_side_is_refused(coco):
    with pytest.raises(ValueError, match="short_sides must not be empty"):
        batches.training_batches(coco, 2, short_sides=())


def replaced(data, examples):
    return type(data)(data.name, data.class_names, examples, [])
