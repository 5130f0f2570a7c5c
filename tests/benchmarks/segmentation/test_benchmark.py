"""Segmentation benchmarks learn, resume, and refuse what does not fit."""

import functools
import importlib
import logging
import pathlib
import resource
import time

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from byol_keras import backbones
from byol_keras.benchmarks import training_state
from byol_keras.benchmarks.segmentation.augmentation import SegmentationView
from byol_keras.benchmarks.segmentation.benchmark import (
    evaluate_fcn,
    segmentation_cityscapes,
    segmentation_voc,
)
from byol_keras.benchmarks.segmentation.dataset import (
    cityscapes_segmentation,
    voc_segmentation,
)
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.benchmarks.segmentation.training import compiled_fcn
from byol_keras.config import parse
from byol_keras.optimizers import MomentumSGD

from support import ROOT
from support.scenes import make_scenes, write_cityscapes, write_vocdevkit

VIEW = SegmentationView(scale=(32, 24), crop_size=16)
PUBLISHED = {
    "segmentation_voc12": {
        "steps": 20_000,
        "batch_size": 16,
        "align_corners": False,
        "test_scale": (2048, 512),
        "scale": (2048, 512),
        "crop_size": 512,
    },
    "segmentation_cityscapes": {
        "steps": 40_000,
        "batch_size": 8,
        "align_corners": True,
        "test_scale": (2049, 1025),
        "test_window": (769, 513),
        "scale": (2049, 1025),
        "crop_size": 769,
    },
}


def recipe(**arguments):
    settings = {
        "view": VIEW,
        "optimizer_fn": functools.partial(MomentumSGD, weight_decay=5e-4),
        "steps": 4,
        "batch_size": 2,
        "channels": 4,
        "auxiliary_channels": 4,
        "test_scale": (32, 24),
        "save_every_steps": 2,
        "pictures": 1,
    }
    return SegmentationRecipe(**(settings | arguments))


def conv_backbone(seed=0, channels=3):
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, channels))
    x = layers.Conv2D(4, 3, 4, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.Conv2D(4, 3, 2, padding="same")(x)
    return keras.Model(images, {"feature4": x, "feature5": y})


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    scenes = make_scenes(7, size=(24, 32))
    folder = tmp_path_factory.mktemp("voc")
    write_vocdevkit(folder, {"2012": {"train": scenes[:5], "val": scenes[5:]}})
    return [voc_segmentation(folder, splits=(split,)) for split in ("train", "val")]


# One whole run.


@pytest.fixture(scope="module")
def run(voc, tmp_path_factory):
    backbone, folder = conv_backbone(), tmp_path_factory.mktemp("run")
    before = [np.array(weight) for weight in backbone.get_weights()]
    results = segmentation_voc(backbone, *voc, recipe(), folder)
    return backbone, before, folder, results


def test_results_are_percent_under_the_names_of_the_classes(run):
    *_, results = run
    named = [key for key in results if key.startswith("segmentation_voc/IoU_")]
    assert {"segmentation_voc/mIoU", "segmentation_voc/pixel_accuracy"} < set(results)
    assert "segmentation_voc/IoU_background" in named
    mean = np.mean([results[key] for key in named])
    assert results["segmentation_voc/mIoU"] == pytest.approx(mean)
    assert 0.0 <= mean <= results["segmentation_voc/pixel_accuracy"] <= 100.0


def test_backbone_is_not_changed(run):
    backbone, before, *_ = run
    for found, expected in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_first_test_images_are_drawn(run, voc):
    *_, folder, _ = run
    pictures = list(folder.glob("run-*/predictions/*.png"))
    stem = pathlib.Path(voc[1].images[0]).stem
    assert [path.stem for path in pictures] == [stem]


def test_finished_run_is_tested_again_without_training(run, voc, monkeypatch):
    backbone, _, folder, results = run
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trained"))
    assert segmentation_voc(backbone, *voc, recipe(), folder) == results


def test_other_backbone_or_seed_starts_without_the_saved_state(run, voc):
    _, _, folder, _ = run
    for backbone, seed in ((conv_backbone(seed=1), 0), (conv_backbone(), 1)):
        segmentation_voc(backbone, *voc, recipe(), folder, seed=seed)
    assert len(list(folder.glob("run-*/state.npz"))) == 3


def test_cityscapes_runs_with_windows_under_its_own_names(tmp_path):
    scenes = make_scenes(3, size=(24, 32))
    write_cityscapes(tmp_path, {"train": scenes[:2], "val": scenes[2:]})
    data = [cityscapes_segmentation(tmp_path, split) for split in ("train", "val")]
    settings = recipe(align_corners=True, test_window=(16, 12), steps=1)
    results = segmentation_cityscapes(conv_backbone(), *data, settings)
    assert "segmentation_cityscapes/mIoU" in results
    assert "segmentation_cityscapes/IoU_road" in results


def test_bad_masks_are_reported_and_do_not_end_the_run(tmp_path, caplog):
    scenes = make_scenes(4, size=(24, 32))
    write_vocdevkit(tmp_path, {"2012": {"train": scenes[:2], "val": scenes[2:]}})
    data = [voc_segmentation(tmp_path, splits=(split,)) for split in ("train", "val")]
    for masks in (data[0].masks, data[1].masks):
        Image.fromarray(np.full((24, 32), 99, np.uint8)).save(masks[0])
    with caplog.at_level(logging.WARNING):
        segmentation_voc(conv_backbone(), *data, recipe(steps=1))
    assert caplog.text.count("1 bad masks left out") == 2
    assert "with value 99" in caplog.text


# Resuming.


def test_killed_run_continues_at_the_saved_step(voc, tmp_path, monkeypatch):
    backbone = conv_backbone()
    whole = segmentation_voc(backbone, *voc, recipe(), tmp_path / "whole")

    real = training_state.TrainingState.save

    def save_and_die(self, step):
        real(self, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_state.TrainingState, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            segmentation_voc(backbone, *voc, recipe(), tmp_path / "killed")
    (path,) = (tmp_path / "killed").glob("run-*/state.npz")
    assert int(np.load(path)["step"]) == 2

    starts, dataset = [], SegmentationView.dataset
    monkeypatch.setattr(
        SegmentationView,
        "dataset",
        lambda *arguments, start: (
            starts.append(start) or dataset(*arguments, start=start)
        ),
    )
    resumed = segmentation_voc(backbone, *voc, recipe(), tmp_path / "killed")
    assert starts == [2 * 2]
    assert resumed == whole
    with (
        np.load(path) as found,
        np.load(next((tmp_path / "whole").glob("run-*/state.npz"))) as expected,
    ):
        assert int(found["step"]) == 4
        for name in expected.files:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_two_replicas_train_save_and_resume(voc, tmp_path):
    # TensorFlow's default reduction on CPUs fails in a process that has used another
    # strategy before.
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        backbone = conv_backbone()
        first = segmentation_voc(backbone, *voc, recipe(steps=2), tmp_path)
        assert segmentation_voc(backbone, *voc, recipe(steps=2), tmp_path) == first
    (path,) = tmp_path.glob("run-*/state.npz")
    assert int(np.load(path)["step"]) == 2


@pytest.mark.slow
def test_run_in_half_precision_resumes_and_leaves_the_precision_as_it_was(
    voc, tmp_path, capsys
):
    backbone, half = conv_backbone(), recipe(steps=2, precision="mixed_float16")
    first = segmentation_voc(backbone, *voc, half, tmp_path)
    assert segmentation_voc(backbone, *voc, half, tmp_path) == first
    assert "resuming at step 2 of 2" in capsys.readouterr().out
    assert keras.config.dtype_policy().name == "float32"


# Mistakes, all found before the first step.


def refused(match, call):
    with pytest.raises(ValueError, match=match) as error:
        call()
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)


def test_backbone_of_gray_images_is_one_line(voc):
    refused(
        r"^segmentation_voc\.backbone must take .* 3 channels",
        lambda: segmentation_voc(conv_backbone(channels=1), *voc, recipe()),
    )


def test_test_data_of_other_classes_are_one_line(voc, tmp_path):
    write_cityscapes(tmp_path, {"val": make_scenes(1, size=(24, 32))})
    other = cityscapes_segmentation(tmp_path, "val")
    refused(
        r"^segmentation_voc\.test_data must have the classes of train_data",
        lambda: segmentation_voc(conv_backbone(), voc[0], other, recipe()),
    )


def test_batch_that_replicas_cannot_share_is_one_line(voc):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        refused(
            r"batch_size must be divisible by the 2 replicas\. Received: 3",
            lambda: segmentation_voc(conv_backbone(), *voc, recipe(batch_size=3)),
        )


# The protocols.


def parsed(name, *bindings):
    # The command line registers what the files bind for it.
    importlib.import_module("byol_keras.benchmarks.__main__")
    parse.parse_gin([str(ROOT / f"gin/benchmarks/{name}.gin")], list(bindings))
    return gin.get_configurable("SegmentationRecipe")()


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_is_as_published(name):
    settings = parsed(name)
    for key, value in PUBLISHED[name].items():
        assert getattr(settings, key, getattr(settings.view, key, None)) == value, key
    optimizer = settings.optimizer_fn(learning_rate=0.1)
    assert optimizer.momentum == 0.9
    assert optimizer.coupled_weight_decay == 5e-4
    assert settings.view.ratios == (0.5, 2.0)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        (
            "segmentation_voc12",
            {
                0: 0.01,
                1: 0.00999955449889,
                10_000: 0.00540527863955,
                19_999: 0.000101332625743,
            },
        ),
        ("segmentation_cityscapes", {0: 0.01, 20_000: 0.00540527863955}),
    ],
)
def test_learning_rate_is_the_published_poly(name, rates):
    schedule = parsed(name).schedule()
    for step, expected in rates.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=3e-6), step


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["voc", "cityscapes"])
def test_tiny_recipe_learns_generated_scenes(kind, tmp_path):
    scenes = make_scenes(100)
    splits = {"train": scenes[:80], "val": scenes[80:]}
    if kind == "voc":
        write_vocdevkit(tmp_path, {"2012": splits})
        name, function, path = "voc12", segmentation_voc, "VOC_PATH"
    else:
        write_cityscapes(tmp_path, splits)
        name, function, path = "cityscapes", segmentation_cityscapes, "CITYSCAPES_PATH"
    half = "SegmentationRecipe.steps = 100"
    settings = parsed(f"segmentation_{name}_tiny", f'{path} = "{tmp_path}"', half)
    bound = gin.get_bindings(function.__name__)
    keras.utils.set_random_seed(0)
    backbone = backbones.resnet18(width=0.25)
    start = time.perf_counter()
    results = function(backbone, bound["train_data"], bound["test_data"], settings)
    print(f"{results}, {time.perf_counter() - start:.0f} s")
    assert results[f"segmentation_{kind}/mIoU"] >= 60.0


@pytest.mark.slow
def test_full_size_trains_a_step_and_predicts(capsys):
    settings = parsed("segmentation_voc12")
    model = compiled_fcn(backbones.resnet50(), 21, settings, seed=0)
    rng = np.random.default_rng(0)
    images = rng.random((2, 512, 512, 3), np.float32)
    masks = rng.integers(0, 21, (2, 512, 512), dtype=np.uint8)
    data = tf.data.Dataset.from_tensors((images, masks))
    history = model.fit(data, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert model(images[:1], training=False).shape == (1, 512, 512, 21)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"FCN, ResNet-50, 2 x 512 x 512: peak memory {peak:.1f} GiB")


def test_data_of_ignored_pixels_only_have_no_score(tmp_path):
    write_vocdevkit(tmp_path, {"2012": {"val": make_scenes(2, size=(24, 32))}})
    data = voc_segmentation(tmp_path, splits=("val",))
    for mask in data.masks:
        Image.fromarray(np.full((24, 32), 255, np.uint8)).save(mask)
    model = compiled_fcn(conv_backbone(), len(data.class_names), recipe(), 0)
    line = (
        r"segmentation_voc\.test_data must have pixels of a class\. Received: VOC2012"
    )
    with pytest.raises(ValueError, match=line):
        evaluate_fcn(model, data, recipe(), None, "segmentation_voc")
