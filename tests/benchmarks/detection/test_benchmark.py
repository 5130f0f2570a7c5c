"""Detection benchmarks: percent, pictures, and the files in gin/."""

import dataclasses
import importlib
import inspect
import json
import pathlib
import resource
import sys

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.backbones import resnet18, resnet50
from byol_keras.benchmarks import detection
from byol_keras.benchmarks.detection import benchmark, detection_coco, detection_voc
from byol_keras.benchmarks.detection.batches import training_batches
from byol_keras.benchmarks.detection.dataset import coco_detection, voc_detection
from byol_keras.benchmarks.detection.faster_rcnn_c4 import FasterRCNNC4
from byol_keras.benchmarks.detection.recipe import DetectorTraining
from byol_keras.benchmarks.detection.training import compile_detector
from byol_keras.config import operative, parse

from support import ROOT
from support.detectors import model_garden_or_skip, small_c4, small_fpn
from support.scenes import make_scenes, write_coco, write_vocdevkit

# In narrower networks the shortcuts, 1x1 convolutions of stride 2, have fewer than 16
# channels, and oneDNN's gradient of these writes beyond its memory where the images of
# a replica cannot be dealt evenly to the threads.
WIDTH = 0.25


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    scenes = make_scenes(6, size=(48, 64))
    write_vocdevkit(folder, {"2007": {"trainval": scenes, "test": scenes[:2]}})
    return {
        split: voc_detection(folder, [("2007", split)])
        for split in ("trainval", "test")
    }


def test_benchmark_without_the_extra_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "official.vision.losses", None)
    training = DetectorTraining(steps=1)
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[dense\]"') as error:
        detection_voc(resnet18(width=0.0625), None, None, FasterRCNNC4, training)
    assert "\n" not in str(error.value)


def test_benchmark_gives_percent_and_pictures_and_leaves_the_backbone(voc, tmp_path):
    model_garden_or_skip()
    backbone = resnet18(width=WIDTH)
    before = backbone.get_weights()

    def detector_fn(backbone, num_classes, image_size):
        return small_c4(backbone, num_classes, image_size, {4: (24,)})

    scores = detection_voc(
        backbone,
        voc["trainval"],
        voc["test"],
        detector_fn,
        DetectorTraining(steps=1, batch_size=2, short_sides=(48,), precise_bn_steps=1),
        (64, 64),
        test_short_side=48,
        convention="detectron2",
        output_dir=tmp_path,
    )
    assert set(scores) == {f"detection_voc/{name}" for name in ("AP", "AP50", "AP75")}
    assert all(0.0 <= score <= 100.0 for score in scores.values())
    assert len(list(tmp_path.glob("run-*/pictures/*.png"))) == 2
    for now, then in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_truncated_image_is_drawn_as_far_as_it_is_whole(voc, tmp_path):
    example = voc["test"].examples[0]
    content = pathlib.Path(example.image_path).read_bytes()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(content[: len(content) // 2])
    data = dataclasses.replace(
        voc["test"], examples=[example._replace(image_path=str(cut))]
    )
    found = example.boxes, np.ones(len(example.labels)), example.labels, None
    benchmark._draw_picture(data, 0, found, tmp_path)
    (picture,) = (tmp_path / "pictures").iterdir()
    assert Image.open(picture).size == (64, 48)


@pytest.mark.slow
def test_coco_without_masks_scores_boxes_only(tmp_path, caplog):
    model_garden_or_skip()
    pytest.importorskip("pycocotools")
    write_coco(tmp_path, {"train2017": make_scenes(3, size=(48, 64))})
    path = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for item in content["annotations"]:
        item["segmentation"] = []
    path.write_text(json.dumps(content))
    data = coco_detection(tmp_path)
    scores = detection_coco(
        resnet18(width=WIDTH),
        data,
        data,
        small_fpn,
        DetectorTraining(steps=1, batch_size=1, short_sides=(48,)),
        (64, 64),
        test_short_side=48,
    )
    assert set(scores) == {f"detection_coco/box_{x}" for x in ("AP", "AP50", "AP75")}
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("mask_AP is not computed") for line in lines)


# The files in gin/.


def parsed(name, *bindings):
    """Parses a file of gin/benchmarks/ as the command line does."""
    model_garden_or_skip()
    importlib.import_module("byol_keras.benchmarks.__main__")
    parse.parse_gin([str(ROOT / f"gin/benchmarks/{name}.gin")], list(bindings))


def written(folder, kind, scenes, held_out):
    """A folder of scenes, and the binding that names it."""
    if kind == "voc":
        halves = {"2012": {"trainval": scenes[1::2]}}
        halves["2007"] = {"trainval": scenes[::2], "test": held_out}
        write_vocdevkit(folder, halves)
        return f'VOC_PATH = "{folder}"'
    write_coco(folder, {"train2017": scenes, "val2017": held_out})
    return f'COCO_PATH = "{folder}"'


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("detection_voc0712", ("mmdetection", False, True, 0)),
        ("detection_voc0712_detectron2", ("detectron2", True, False, 200)),
    ],
)
def test_variants_of_voc_differ_as_published(name, differs, tmp_path):
    scenes = make_scenes(3)
    parsed(name, written(tmp_path, "voc", scenes[:2], scenes[2:]))
    bound = gin.get_bindings("detection_voc")
    recipe, data = bound["training"], bound["train_data"]
    found = (bound["convention"], data.trains_difficult)
    assert (*found, recipe.decay_norms, recipe.precise_bn_steps) == differs
    assert (recipe.steps, recipe.milestones) == (24000, (18000, 22000))
    assert recipe.batch_size * recipe.learning_rate == pytest.approx(16 * 0.02)
    assert len(data.examples) == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("voc", "detection_voc0712"),
        ("voc", "detection_voc0712_detectron2"),
        ("voc", "detection_voc0712_tiny"),
        ("coco", "detection_coco"),
        ("coco", "detection_coco_tiny"),
    ],
)
def test_every_binding_of_a_file_is_used(kind, name, tmp_path):
    scenes = make_scenes(3)
    parsed(name, written(tmp_path, kind, scenes[:2], scenes[2:]))
    bound = gin.get_bindings(f"detection_{kind}")
    bound["detector_fn"](resnet18(width=WIDTH), 3, bound["image_size"])
    arguments = inspect.signature(getattr(detection, f"detection_{kind}")).parameters
    assert set(bound) <= set(arguments)
    called_here = ("benchmark.", f"detection_{kind}.")
    assert [
        x for x in operative.unused_bindings() if not x.startswith(called_here)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        ("voc", "voc0712_tiny", {"AP50": 40.0}),
        ("coco", "coco_tiny", {"box_AP50": 60.0, "mask_AP50": 50.0}),
    ],
)
def test_tiny_recipe_learns_generated_scenes(kind, name, least, tmp_path):
    path = written(tmp_path, kind, make_scenes(100), make_scenes(40, seed=1))
    parsed(f"detection_{name}", path)
    function = {"voc": detection_voc, "coco": detection_coco}[kind]
    keras.utils.set_random_seed(1)
    scores = function(resnet18(width=0.25), **gin.get_bindings(function.__name__))
    for metric, score in least.items():
        assert scores[f"{function.__name__}/{metric}"] >= score


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_full_size_trains_a_step_and_predicts(kind, tmp_path, capsys):
    height, width = canvas = (832, 1344)
    scenes = make_scenes(2, size=(96, 160))
    path = written(tmp_path, kind, scenes[:1], scenes[1:])
    parsed({"voc": "detection_voc0712", "coco": "detection_coco"}[kind], path)
    bound = gin.get_bindings(f"detection_{kind}")
    data = bound["train_data"]
    detector = bound["detector_fn"](resnet50(), len(data.class_names), canvas)
    compile_detector(detector, bound["training"], num_images=1)
    masks = 112 if kind == "coco" else None
    batches = training_batches(data, 1, canvas, (800,), mask_size=masks)
    losses = detector.fit(batches, steps_per_epoch=1, verbose=0).history
    assert np.isfinite([values[0] for values in losses.values()]).all()
    image = tf.zeros([1, height, width, 3])
    found = detector.detect(image, tf.constant([[800.0, 1333.0]]))
    assert found["boxes"].shape == (1, 100, 4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"{type(detector).__name__}, 800 x 1333: peak memory {peak:.1f} GiB")
