"""Gin files of benchmarks run on data in the published layouts."""

import json

import pytest

from byol_keras.benchmarks.__main__ import benchmark
from byol_keras.config import parse
from byol_keras.data.published import VOC_CLASSES

from support import ROOT
from support.datasets import (
    make_imagenet,
    make_inaturalist2018,
    make_places205,
    write_jpeg,
    write_text,
)
from support.models import export_five_stages

RECIPES = ROOT / "gin/benchmarks"
SHORT = ("linear_features.epochs = 1", "linear_features.batch_size = 3")
IMAGENET_FILES = (
    "linear.train_data = @train/imagenet_folder()",
    "linear.test_data = @val/imagenet_folder()",
    "train/imagenet_folder.split = 'train'",
    "val/imagenet_folder.split = 'val'",
    "linear.epochs = 1",
    "linear.batch_size = 3",
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return export_five_stages(tmp_path_factory.mktemp("export"))


def run(name, backbone, folder, *bindings):
    parse.parse_gin([str(RECIPES / f"{name}.gin")], list(bindings))
    benchmark(backbone, str(folder))
    (record,) = (folder / "benchmarks").glob("*.json")
    return json.loads(record.read_text())["results"]["trained"]


def make_voc(folder, num_images=60):
    """VOC07, of which image i of a split shows class i modulo 20 and nothing else."""
    base = folder / "VOCdevkit/VOC2007"
    for first, split in ((0, "trainval"), (num_images, "test")):
        for number in range(first, first + num_images):
            write_jpeg(base / f"JPEGImages/{number:06}.jpg", number)
        for place, name in enumerate(VOC_CLASSES):
            lines = [
                f"{number:06} {' 1' if number % 20 == place else '-1'}"
                for number in range(first, first + num_images)
            ]
            write_text(base / f"ImageSets/Main/{name}_{split}.txt", lines)
    return folder


@pytest.mark.parametrize("name", ["places205", "inaturalist2018"])
def test_stages_are_classified_from_lists(name, backbone, tmp_path):
    make = {"places205": make_places205, "inaturalist2018": make_inaturalist2018}[name]
    path = f"{name}.path = {str(make(tmp_path))!r}"
    results = run(f"linear_features_{name}", backbone, tmp_path, path, *SHORT)
    keys = {f"linear_features/feature{level}_top1" for level in range(1, 6)}
    assert set(results) == keys | {"linear_features/best_top1"}


def test_linear_runs_on_an_imagenet_folder(backbone, tmp_path):
    path = f"imagenet_folder.path = {str(make_imagenet(tmp_path))!r}"
    results = run("linear_imagenet", backbone, tmp_path, path, *IMAGENET_FILES)
    assert 0.0 <= results["linear/top1"] <= results["linear/top5"] == 100.0


def test_low_shot_svm_runs_on_a_vocdevkit(backbone, tmp_path):
    path = f"VOC_PATH = {str(make_voc(tmp_path))!r}"
    short = ("low_shot_svm.ks = (1,)", "low_shot_svm.costs = (1.0,)", "SVM_JOBS = 1")
    short += ("low_shot_svm.samples = 1",)
    results = run("low_shot_svm_voc07", backbone, tmp_path, path, *short)
    assert 0.0 < results["low_shot_svm/k1_mAP"] <= 100.0


def test_svm_runs_on_a_vocdevkit(backbone, tmp_path):
    path = f"VOC_PATH = {str(make_voc(tmp_path))!r}"
    short = ("svm.features = ['pooled5']", "svm.costs = (1.0,)", "SVM_JOBS = 1")
    results = run("svm_voc07", backbone, tmp_path, path, *short)
    assert 0.0 < results["svm/feature5_mAP"] == results["svm/best_mAP"]
