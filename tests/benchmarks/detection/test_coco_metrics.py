"""COCO's average precision equals that of pycocotools."""

import builtins
import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from byol_keras.benchmarks.detection.coco_metrics import coco_ap
from byol_keras.benchmarks.detection.dataset import coco_detection
from byol_keras.benchmarks.detection.masks import bitmap, encode_masks

from support.scenes import COCO_IDS, data_of, make_scenes, run_lengths, write_coco

# The last of several objects is a crowd.
SCENES = [
    scene._replace(
        difficult=np.arange(len(scene.labels)) == max(1, len(scene.labels) - 1)
    )
    for scene in make_scenes(8, size=(64, 80), seed=5)
]
NO_DETECTIONS = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), None)


@pytest.fixture
def needs_pycocotools():
    pytest.importorskip("pycocotools")


@pytest.fixture
def coco(tmp_path, needs_pycocotools):
    write_coco(tmp_path, {"val2017": SCENES})
    return tmp_path


def exact(scene):
    keep = ~scene.difficult
    scores = np.linspace(0.9, 0.5, keep.sum())
    return scene.boxes[keep], scores, scene.labels[keep], scene.masks[keep]


def random_answers(scene, rng):
    """Objects moved by a pixel or two, some of another class, and one invented."""
    places = rng.integers(0, len(scene.labels), 4)
    boxes, masks = [], []
    for place in places:
        shift = rng.integers(-3, 4, 2)
        boxes.append(scene.boxes[place] + np.tile(shift, 2) + rng.uniform(-1, 1, 4))
        masks.append(np.roll(scene.masks[place], shift, axis=(0, 1)))
    labels = np.where(rng.uniform(size=4) < 0.2, 0, scene.labels[places])
    boxes.append(np.array([5.0, 5.0, 30.0, 30.0]))
    masks.append(np.zeros_like(masks[0]))
    masks[-1][5:30, 5:30] = True
    labels = np.append(labels, rng.integers(0, 3))
    return np.array(boxes, np.float32), rng.uniform(size=5), labels, np.array(masks)


def direct(folder, detections, kind):
    """pycocotools on the file itself, with the ids of the file."""
    import pycocotools.mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = folder / "annotations" / "instances_val2017.json"
    ids = [image["id"] for image in json.loads(path.read_text())["images"]]
    results = []
    for image_id, (boxes, scores, labels, masks) in zip(ids, detections, strict=True):
        for i in range(len(labels)):
            result = {
                "image_id": image_id,
                "category_id": COCO_IDS[labels[i]],
                "score": float(scores[i]),
            }
            if kind == "bbox":
                ymin, xmin, ymax, xmax = boxes[i].astype(float)
                result["bbox"] = [xmin, ymin, xmax - xmin, ymax - ymin]
            else:
                mask = np.asfortranarray(masks[i].astype(np.uint8))
                result["segmentation"] = pycocotools.mask.encode(mask)
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[:3]


@pytest.mark.parametrize("seed", range(3))
def test_random_detections_score_like_pycocotools_itself(coco, seed):
    rng = np.random.default_rng(seed)
    detections = [random_answers(scene, rng) for scene in SCENES]
    result = coco_ap(coco_detection(coco, "val2017"), detections)
    for prefix, kind in (("box", "bbox"), ("mask", "segm")):
        ours = [result[f"{prefix}_{name}"] for name in ("AP", "AP50", "AP75")]
        assert ours == direct(coco, detections, kind).tolist()
        assert 5 < ours[0] < ours[1] < 95


def write_odd_coco(folder, seed, masks):
    """Annotations with all that real files have: crowds, empty images, gaps in ids.

    Args:
        masks: bool. Whether all objects have masks. If not, some have none or an
            unusable one, and some boxes reach beyond the image or have no area.
    """
    rng = np.random.default_rng(seed)
    ids = rng.choice(1000, 9, replace=False).tolist()
    images, annotations = [], []
    (folder / "val2017").mkdir()
    for number, image_id in enumerate(ids):
        height, width = rng.integers(30, 90, 2).tolist()
        name = f"{number}.jpg"
        pixels = np.zeros((height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "val2017" / name)
        size = {"height": height, "width": width}
        images.append({"id": image_id, "file_name": name} | size)
        for _ in range(rng.integers(0, 6) if number else 0):
            item = odd_object(rng, height, width, masks)
            item["id"] = 3 * len(annotations) + int(rng.integers(1, 3))
            annotations.append(item | {"image_id": image_id})
    categories = [{"id": i, "name": f"class {i}"} for i in COCO_IDS]
    content = {
        "images": images,
        "annotations": [annotations[i] for i in rng.permutation(len(annotations))],
        "categories": categories,
    }
    (folder / "annotations").mkdir()
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))


def odd_object(rng, height, width, masks):
    x, y = rng.uniform(0, 0.6) * width, rng.uniform(0, 0.6) * height
    w, h = rng.uniform(0.1, 0.4) * width, rng.uniform(0.1, 0.4) * height
    crowd = bool(rng.uniform() < 0.15)
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    pixels = np.zeros((height, width), bool)
    pixels[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = True
    mask = run_lengths(pixels) if crowd or rng.uniform() < 0.3 else [polygon]
    item = {
        "category_id": int(rng.choice(COCO_IDS[:3])),
        "bbox": [round(side, 2) for side in (x, y, w, h)],
        "area": w * h,
        "iscrowd": int(crowd),
        "segmentation": mask,
    }
    if not masks and not crowd:
        kind = rng.uniform()
        if kind < 0.15:
            del item["segmentation"]
        elif kind < 0.3:
            item["segmentation"] = []
        elif kind < 0.4:
            item["segmentation"] = [polygon[:4]]
        elif kind < 0.5:
            item["bbox"][2] = 0.8 * width
        elif kind < 0.55:
            item["bbox"][3] = 0
    return item


def odd_answers(example, rng):
    """Boxes near the objects, often twice, and invented ones; scores are tied."""
    count = len(example.labels)
    places = rng.integers(0, count, 2 * count) if count else np.zeros(0, int)
    found = example.boxes[places] + rng.normal(0, 2, (len(places), 4))
    invented = rng.uniform(0, 20, (int(rng.choice([0, 3, 110])), 4))
    invented += np.array([0, 0, 20, 20])
    limits = [example.height, example.width] * 2
    boxes = np.clip(np.concatenate([found, invented]), 0, limits).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    labels = rng.integers(0, 3, len(boxes))
    labels[: len(places)] = example.labels[places][: len(boxes)]
    masks = np.zeros((len(boxes), example.height, example.width), bool)
    for mask, (ymin, xmin, ymax, xmax) in zip(masks, boxes.astype(int), strict=True):
        mask[ymin : ymax + 1, xmin : xmax + 1] = True
    return boxes, rng.uniform(size=len(boxes)).round(1), labels, masks


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_odd_annotations_score_like_pycocotools_itself(
    tmp_path, needs_pycocotools, seed, masks, caplog
):
    write_odd_coco(tmp_path, seed, masks)
    data = coco_detection(tmp_path, "val2017")
    rng = np.random.default_rng(seed)
    detections = [odd_answers(example, rng) for example in data.examples]
    result = coco_ap(data, detections)
    for prefix, kind in (("box", "bbox"), ("mask", "segm"))[: 1 + masks]:
        ours = [result[f"{prefix}_{name}"] for name in ("AP", "AP50", "AP75")]
        assert ours == pytest.approx(direct(tmp_path, detections, kind), abs=1e-9)
        assert 1 < ours[0] < ours[1] < 95
    assert ("mask_AP" in result) is masks
    lines = [record.getMessage() for record in caplog.records]
    assert any("mask_AP is not computed" in line for line in lines) is not masks


def test_precision_does_not_depend_on_the_order_of_images(coco):
    data = coco_detection(coco, "val2017")
    rng = np.random.default_rng(0)
    detections = [random_answers(scene, rng) for scene in SCENES]
    detections = [(b, np.round(s, 1), a, None) for b, s, a, _ in detections]
    order = rng.permutation(len(SCENES))
    moved = dataclasses.replace(data, examples=[data.examples[i] for i in order])
    assert coco_ap(moved, [detections[i] for i in order]) == coco_ap(data, detections)


def test_object_with_a_polygon_of_four_numbers_stays_in_the_precision_of_boxes(
    coco, caplog
):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"] = content["images"][:1]
    polygon = [10, 10, 30, 10, 30, 30, 10, 30]
    whole = {"id": 1, "image_id": content["images"][0]["id"], "iscrowd": 0}
    whole |= {"category_id": COCO_IDS[0], "bbox": [10, 10, 20, 20], "area": 400}
    short = whole | {"id": 2, "bbox": [40, 40, 20, 20], "segmentation": [polygon[:4]]}
    content["annotations"] = [whole | {"segmentation": [polygon]}, short]
    path.write_text(json.dumps(content))
    data = coco_detection(coco, "val2017")
    box = np.array([[10.0, 10, 30, 30]])
    mask = np.zeros((1, 64, 80), bool)
    mask[0, 10:30, 10:30] = True
    result = coco_ap(data, [(box, np.array([0.9]), np.array([0]), mask)])
    assert list(result) == ["box_AP", "box_AP50", "box_AP75"]
    assert result["box_AP50"] == pytest.approx(50.495, abs=1e-3)
    line = "mask_AP is not computed: 1 objects of COCO val2017"
    assert any(line in record.getMessage() for record in caplog.records)


def test_exact_detections_score_100_with_crowds_left_out(coco):
    assert sum(scene.difficult.sum() for scene in SCENES) > 1
    result = coco_ap(coco_detection(coco, "val2017"), [exact(x) for x in SCENES])
    assert result["box_AP"] == pytest.approx(100.0)
    assert result["mask_AP50"] == pytest.approx(100.0)
    assert result["mask_AP"] > 98  # polygons are drawn a little differently


def test_detections_of_a_crowd_are_not_wrong(coco):
    detections = []
    for scene in SCENES:
        boxes, scores, labels, _ = exact(scene)
        crowd = scene.difficult
        detections.append(
            (
                np.concatenate([scene.boxes[crowd], boxes]),
                np.concatenate([np.full(crowd.sum(), 0.99), scores]),
                np.concatenate([scene.labels[crowd], labels]),
                None,
            )
        )
    result = coco_ap(coco_detection(coco, "val2017"), detections)
    assert result["box_AP"] == pytest.approx(100.0)


def test_encoded_masks_score_like_masks(coco):
    rng = np.random.default_rng(0)
    detections = [random_answers(scene, rng) for scene in SCENES]
    encoded = [(*found[:3], encode_masks(found[3])) for found in detections]
    data = coco_detection(coco, "val2017")
    assert coco_ap(data, encoded) == coco_ap(data, detections)


def test_encoded_masks_decode_to_the_same_masks(needs_pycocotools):
    masks = SCENES[0].masks
    encoded = encode_masks(masks)
    np.testing.assert_array_equal([bitmap(m, 64, 80) for m in encoded], masks)
    assert encode_masks(masks[:0]) == []


def test_detections_without_masks_have_no_mask_scores(coco):
    detections = [(*exact(scene)[:3], None) for scene in SCENES]
    result = coco_ap(coco_detection(coco, "val2017"), detections)
    assert list(result) == ["box_AP", "box_AP50", "box_AP75"]


def test_no_detections_score_0(coco):
    result = coco_ap(coco_detection(coco, "val2017"), [NO_DETECTIONS] * len(SCENES))
    assert result == {"box_AP": 0.0, "box_AP50": 0.0, "box_AP75": 0.0}


def test_nothing_is_printed(coco, capfd):
    coco_ap(coco_detection(coco, "val2017"), [exact(scene) for scene in SCENES])
    assert capfd.readouterr().out == ""


def test_masks_are_refused_for_data_without_masks(needs_pycocotools):
    data = data_of([[[10, 10, 30, 30]]], [[0]])
    found = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [])
    with pytest.raises(ValueError, match="without masks for data without masks"):
        coco_ap(data, [found])


def test_missing_pycocotools_is_named_with_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    data = data_of([[[10, 10, 30, 30]]], [[0]])
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[dense\]"'):
        coco_ap(data, [NO_DETECTIONS])
