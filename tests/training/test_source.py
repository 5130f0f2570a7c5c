"""Continued pre-training: a run that starts from the networks of another run."""

import dataclasses
import functools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL, data, load_backbone
from byol_keras.checkpoints.files import CheckpointFolder, read_checkpoint
from byol_keras.checkpoints.fingerprint import fingerprint
from byol_keras.checkpoints.variables import (
    arrays_of,
    copies_of,
    variables_of_networks,
)
from byol_keras.export import pretrained_backbone
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.training.build import build_run
from byol_keras.training.source import digest_of, find_source, read_source

from support import ROOT
from support.datasets import write
from support.models import tiny_backbone
from support.run_parts import PARTS, SETTINGS, build
from support.runs import run

# 80 images, batches of 32: epochs end at steps 2, 5 and 7.
OTHER_IMAGES = "fashion_mnist_small.split = 'train[100:180]'"
EVERY_STEP = ("Checkpoints.every_steps = 1", "Checkpoints.keep = 1000")
QUICK = (
    *("train.guard_fn = None", "train.doctor_fn = None"),
    *(f"TwoViews.view{n} = [@RandomResizedCrop()]" for n in (1, 2)),
)
HEADS = functools.partial(BYOL, hidden_units=16, output_units=8)


def start(model_dir, *bindings, **arguments):
    run(model_dir, *QUICK, *bindings, **arguments)


def from_backbone(file):
    """Bindings of a run from a backbone alone; the warm-up of its heads has 5 steps."""
    return (
        "train.backbone_fn = @pretrained_backbone",
        f"pretrained_backbone.file = '{file}'",
        "train.head_warmup_epochs = 2",
        "BYOL.target_init = 'random'",
    )


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "backbone.keras"
    tiny_backbone(1).save(path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory, backbone_file):
    """A run from a backbone alone, with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    start(folder, *from_backbone(backbone_file), *EVERY_STEP)
    return folder


def continuing(source):
    return f"train.start_from = '{source}'", OTHER_IMAGES


@pytest.fixture(scope="module")
def continued(source, tmp_path_factory):
    """A run that starts from the other, with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("runs") / "b"
    start(folder, *continuing(source), *EVERY_STEP)
    return folder


def interrupted(unbroken, folder, step):
    """A copy of a run folder as it was after a step."""
    shutil.copytree(unbroken, folder)
    for path in (folder / "checkpoints").iterdir():
        if path.name > f"step_{step:09}.npz":
            path.unlink()
    return folder


def small_run(source, strategy="cpu", precision="float32", **parts):
    """A run that starts from the source, before its first step."""
    parts = dataclasses.replace(PARTS, **{"model_fn": HEADS, **parts})
    changes = {"start_from": str(source), "precision": precision}
    return build_run(None, strategy, parts, dataclasses.replace(SETTINGS, **changes))


def newest(folder):
    return CheckpointFolder(RunFolder(folder).checkpoints).newest()


def assert_equal(arrays, expected, count=None):
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)
    assert count is None or len(arrays) == count


# --- What a run starts with -----------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_all_networks_start_as_those_of_the_source(source, strategy, precision):
    built = small_run(source, strategy, precision)
    arrays = copies_of(variables_of_networks(built.model))
    assert_equal(arrays, newest(source).arrays, count=2 * (6 + 7) + 7)
    assert digest_of(arrays) == built.source.digest
    assert not np.array_equal(arrays["online/0000"], arrays["target/0000"])
    assert built.model.optimizer.iterations.numpy() == 0
    assert built.source.arrays == {}


def test_features_before_the_first_step_are_those_of_the_sources_export(source):
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    backbone = small_run(source).model.online.backbone
    expected = load_backbone(source)(images)["avgpool"]
    np.testing.assert_allclose(backbone(images)["avgpool"], expected, atol=1e-6)
    fresh = build(model_fn=HEADS).model.online.backbone
    assert np.abs(fresh(images)["avgpool"] - expected).max() > 1e-2


def test_source_with_a_damaged_newest_checkpoint_starts_from_the_one_before(
    source, tmp_path
):
    folder = shutil.copytree(source, tmp_path / "a")
    (folder / "checkpoints/step_000000007.npz").write_bytes(b"damaged")
    found = read_source(str(folder))
    assert found.step == 6
    assert "step_000000007.npz cannot be read" in found.damaged[0]


def test_run_records_its_source_wherever_it_describes_itself(source, continued):
    found = newest(source)
    networks = {n: a for n, a in found.arrays.items() if n[:6] in NETWORKS}
    digest = digest_of(networks)
    expected = {"path": str(source), "step": 7, "sha256": digest}
    assert newest(continued).about["started_from"] == expected
    words = f"at step 7, sha256 {digest[:12]}"
    (begun,) = json.loads((continued / "environment.json").read_text())
    assert words in begun["plan"]["start"]
    card = (continued / "export/MODEL_CARD.md").read_text()
    assert f"| started from | all networks of {source} {words} |" in card
    assert "started from" not in (source / "export/MODEL_CARD.md").read_text()


NETWORKS = ("online", "target", "predic")


def test_schedules_start_anew(continued):
    first = json.loads((continued / "metrics.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["learning_rate"]) == (1, 0.0)
    assert first["tau"] == pytest.approx(0.97, abs=1e-6)


# --- Resuming -------------------------------------------------------------------------


def test_resumed_run_needs_no_source_and_equals_an_uninterrupted_one(
    source, continued, tmp_path, capsys
):
    folder = interrupted(continued, tmp_path / "b", step=3)
    aside = source.rename(source.with_name("aside"))
    try:
        start(folder, *continuing(source))
    finally:
        aside.rename(source)
    assert "resuming at step 3 of 7" in capsys.readouterr().out
    found = newest(folder)
    assert_equal(found.arrays, newest(continued).arrays)
    assert found.about["started_from"]["step"] == 7


def test_another_source_is_a_change_that_a_resumed_run_refuses(
    source, continued, capsys
):
    for other in ("'runs/other'", "None"):
        with pytest.raises(SystemExit) as stopped:
            start(continued, f"train.start_from = {other}", OTHER_IMAGES)
        assert stopped.value.code == 2
        printed = capsys.readouterr().err
        assert f"train.start_from: '{source}' in the checkpoint" in printed


def test_fingerprint_has_the_parameters_only_where_they_are_bound(
    source, backbone_file
):
    start(None, dry_run=True)
    plain = fingerprint()
    start(None, *continuing(source), dry_run=True)
    changed = fingerprint()
    assert changed.pop("train.start_from") == f"'{source}'"
    assert changed.keys() == plain.keys()
    start(None, *from_backbone(backbone_file), dry_run=True)
    assert fingerprint()["train.head_warmup_epochs"] == "2"


def test_run_with_a_checkpoint_of_its_own_reads_no_source(continued):
    assert find_source("nowhere", str(continued)) is None
    assert find_source(None, None) is None
    with pytest.raises(ValueError, match="existing folder"):
        find_source("nowhere", None)


# --- A warm-up of fresh heads ---------------------------------------------------------


def test_warm_up_holds_the_backbone_for_its_steps_and_no_longer(source, backbone_file):
    weights = load_backbone(backbone_file).trainable_weights
    names = dict(zip(("0000", "0001", "0002", "0003"), weights, strict=True))
    steps = [
        read_checkpoint(source / f"checkpoints/step_{step:09}.npz").arrays
        for step in range(1, 8)
    ]
    for arrays in steps[:5]:
        for name, weight in names.items():
            for network in ("online", "target"):
                np.testing.assert_array_equal(arrays[f"{network}/{name}"], weight)
    for name in (*names, "0006", "0012"):
        assert not np.array_equal(
            steps[5][f"online/{name}"], steps[4][f"online/{name}"]
        )
    # Meanwhile heads, the target's projector and statistics have moved.
    for name in ("online/0004", "online/0006", "target/0006", "predictor/0000"):
        assert not np.array_equal(steps[4][name], steps[1][name]), name


def test_target_starts_as_the_online_network_whatever_its_init(backbone_file):
    backbone_fn = functools.partial(pretrained_backbone, file=str(backbone_file))
    random_target = functools.partial(HEADS, target_init="random")
    model = build(backbone_fn=backbone_fn, model_fn=random_target).model
    for weight, other in zip(model.online.weights, model.target.weights, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_run_interrupted_in_the_warm_up_equals_an_uninterrupted_one(
    source, backbone_file, tmp_path, capsys
):
    folder = interrupted(source, tmp_path / "a", step=3)
    start(folder, *from_backbone(backbone_file))
    assert "resuming at step 3 of 7" in capsys.readouterr().out
    assert_equal(newest(folder).arrays, newest(source).arrays)


# --- Recipes --------------------------------------------------------------------------


def test_backbone_in_the_form_of_keras_applications_starts_a_run(tmp_path):
    network = small_backbone(3)
    images = keras.Input((None, None, 3))
    x = keras.applications.resnet.preprocess_input(255.0 * images)
    backbone = keras.Model(images, {"avgpool": network(x)["avgpool"]})
    backbone.save(tmp_path / "imagenet.keras")
    started = build(
        {"head_warmup_epochs": 1},
        dataset_fn=color_images,
        backbone_fn=functools.partial(
            pretrained_backbone, file=str(tmp_path / "imagenet.keras")
        ),
    )
    pixels = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    blue_first = 255.0 * pixels[..., ::-1] - [103.939, 116.779, 123.68]
    expected = network(blue_first.astype(np.float32))["avgpool"]
    for part in (started.model.online, started.model.target):
        found = part.represent(pixels, training=False)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.fixture
def color_run(tmp_path):
    """A run folder with a checkpoint and an export, of a network of its own."""
    model = BYOL(small_backbone(3), hidden_units=24, output_units=12)
    model.compile("sgd")
    folder = RunFolder(tmp_path / "color_run")
    checkpoints = CheckpointFolder(folder.checkpoints)
    checkpoints.save(9, arrays_of(model), {"config": {}})
    checkpoints.close()
    folder.export.mkdir()
    model.online.backbone.save(folder.backbone)
    return folder


@pytest.mark.parametrize(
    ("recipe", "binding", "printed"),
    [
        ("continue_image_folder", "START", "color_run at step 9, sha256 "),
        (
            "image_folder_from_weights",
            "pretrained_backbone.file",
            "heads at random; backbone held for 2 steps",
        ),
    ],
)
def test_recipe_starts_from_a_run_of_any_architecture(
    color_run, tmp_path, monkeypatch, capsys, recipe, binding, printed
):
    for number in range(8):
        pixels = np.full((6, 6, 3), number, np.uint8)
        write(tmp_path / f"images/{number}.png", tf.io.encode_png(pixels))
    monkeypatch.chdir(tmp_path)
    start(
        None,
        f"{binding} = 'color_run'",
        "image_folder.path = 'images'",
        "train.batch_size = 8",
        "BYOL.hidden_units = 24",
        "BYOL.output_units = 12",
        gin_file=ROOT / f"gin/pretrain/{recipe}.gin",
        dry_run=True,
    )
    assert printed in " ".join(capsys.readouterr().out.split())


# --- Errors ---------------------------------------------------------------------------


def small_backbone(channels, filters=8, strides=2):
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(filters, 3, strides=strides, name="conv")(images)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.GlobalAveragePooling2D(name="avgpool")(keras.layers.ReLU()(x))
    return keras.Model(images, {"avgpool": x})


def no_layers(channels):
    return keras.Sequential([keras.Input((8, 8, channels)), keras.layers.Flatten()])


def own_predictor(backbone):
    return HEADS(backbone, predictor=keras.Sequential([keras.layers.Dense(8)]))


def color_images():
    return data.arrays(np.zeros((11, 2, 2, 3), np.uint8), None)


ALONE = (
    "train.backbone_fn = @pretrained_backbone without train.start_from starts from a "
    "backbone alone"
)
OTHER_NETWORKS = {
    "hidden": (
        {"model_fn": functools.partial(HEADS, hidden_units=24)},
        f"BYOL.hidden_units must be 16, as in train.start_from; {ALONE}. Received: 24",
    ),
    "heads": (
        {"model_fn": functools.partial(BYOL, hidden_units=24, output_units=4)},
        "BYOL.hidden_units, BYOL.output_units must be 16, 8, as in train.start_from; "
        f"{ALONE}. Received: 24, 4",
    ),
    "own head": (
        {"model_fn": own_predictor},
        "train.model_fn must build the projector and predictor of train.start_from. "
        "Received: heads with other weights than those in {source}",
    ),
    "width": (
        {"backbone_fn": functools.partial(small_backbone, filters=4)},
        "train.backbone_fn must build the backbone of train.start_from, as "
        "{source}/config.gin does. Received: conv/kernel of shape (3, 3, 1, 4), there "
        "(3, 3, 1, 8)",
    ),
    "depth": (
        {
            "backbone_fn": lambda channels: keras.Sequential(
                [keras.Input((8, 8, 1)), keras.layers.Flatten()]
            )
        },
        "train.backbone_fn must build the backbone of train.start_from, as "
        "{source}/config.gin does. Received: 0 variables, there 6",
    ),
    "strides": (
        {"backbone_fn": functools.partial(small_backbone, strides=1)},
        "train.backbone_fn must build the backbone of train.start_from, as "
        "{source}/config.gin does. Received: one that computes other features with the "
        "same weights (its strides, padding or normalization differ)",
    ),
    "channels": (
        {"dataset_fn": color_images},
        "train.start_from must be a run on images with the channels of the data, 3. "
        "Received: {source}, on 1",
    ),
}


@pytest.mark.parametrize("case", OTHER_NETWORKS)
def test_other_networks_than_the_sources_are_one_line(source, case):
    parts, line = OTHER_NETWORKS[case]
    with pytest.raises(ValueError) as error:
        small_run(source, **parts)
    assert str(error.value) == line.format(source=source)


PLACES = {
    "runs/nowhere": "be an existing folder. Received: runs/nowhere",
    "gs://runs/a": "be a local path; URLs are not supported. Received: gs://runs/a",
    "a.keras": f"be a run folder, with all networks; {ALONE}. Received: a.keras",
    "{source}/export": f"be a run folder with a checkpoint; {ALONE}. Received: "
    "{source}/export, without one in {source}/export/checkpoints",
}


@pytest.mark.parametrize("place", PLACES)
def test_place_without_all_networks_is_one_line(source, place):
    with pytest.raises(ValueError) as error:
        read_source(place.format(source=source))
    rule = PLACES[place].format(source=source)
    assert str(error.value) == f"train.start_from must {rule}"


def test_damaged_source_is_one_line(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step_000000001.npz").write_bytes(b"damaged")
    rule = r"^train\.start_from must hold an undamaged checkpoint\. Received: \S+\.npz "
    with pytest.raises(ValueError, match=rule + "cannot be read"):
        read_source(str(tmp_path))


def test_command_ends_with_that_line_before_data_are_read(monkeypatch, capsys):
    monkeypatch.setattr(data, "tfds_folder", lambda *_: pytest.fail("data were read"))
    with pytest.raises(SystemExit) as stopped:
        start(None, "train.start_from = 'runs/nowhere'", dry_run=True)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: train.start_from must be an existing folder. Received: runs/nowhere\n"
    )


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"head_warmup_epochs": -1}, r"must be an int of at least 0\. Received: -1"),
        ({"head_warmup_epochs": 3}, r"smaller than train.epochs \(3\)\. Received: 3"),
        (
            {"head_warmup_epochs": 1, "start_from": "a"},
            "must be 0 with train.start_from, whose heads are trained. Received: 1",
        ),
    ],
)
def test_warm_up_that_cannot_be_is_refused_under_its_gin_name(settings, rule):
    with pytest.raises(ValueError, match=rf"^train\.head_warmup_epochs .*{rule}"):
        build(settings)


def test_warm_up_of_heads_on_a_random_target_is_refused():
    random_target = functools.partial(HEADS, target_init="random")
    rule = (
        r"^train\.head_warmup_epochs must be 0 for a backbone at random.* Received: 1$"
    )
    with pytest.raises(ValueError, match=rule):
        build({"head_warmup_epochs": 1}, model_fn=random_target)
    assert build({"head_warmup_epochs": 1}).head_warmup.steps == 2
