"""Exports of a run's networks compute what the networks of training compute."""

import functools
import json

import keras
import numpy as np
import pytest

from byol_keras import BYOL, resnet18
from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.checkpoints.variables import by_position
from byol_keras.export import export_backbone, formats, networks
from byol_keras.export.model_card import model_card, rewrite_scores, write_card

from support.processes import command_line

FEATURES = sorted(["avgpool", *(f"feature{n}" for n in range(1, 6))])
IMAGES = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)


def randomized(model, seed):
    rng = np.random.default_rng(seed)
    weights = [w + 0.1 * rng.random(w.shape) for w in model.get_weights()]
    model.set_weights(weights)


@pytest.fixture(scope="module")
def model():
    found = BYOL(resnet18(width=0.125, stem="small"), 24, 16)
    randomized(found.online, 1)
    randomized(found.target, 2)
    return found


@pytest.fixture(scope="module")
def run_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    export_backbone(model.online.backbone, folder / "export")
    parts = {"online": model.online.variables, "target": model.target.variables}
    variables = by_position(parts)
    arrays = {name: keras.ops.convert_to_numpy(v) for name, v in variables.items()}
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(7, arrays, {})
    checkpoints.close()
    return folder


def close(found, expected, limit=1e-4):
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[name] / scale, value / scale, atol=limit)


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_backbone_of_a_network_is_that_of_training(network, model, run_folder):
    backbone = networks.network_of_run(run_folder, network)
    expected = getattr(model, network).backbone
    found = formats.outputs_of(backbone, IMAGES)
    close(found, formats.outputs_of(expected, IMAGES), 1e-6)


def test_online_and_target_differ(run_folder):
    online, target = (
        networks.network_of_run(run_folder, network)(IMAGES)["avgpool"]
        for network in networks.NETWORKS
    )
    assert np.abs(online - target).max() > 1e-3


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_projector_of_a_network_is_that_of_training(network, model, run_folder):
    encoder = networks.network_of_run(run_folder, network, "projector")
    expected = getattr(model, network)(IMAGES, training=False)
    close(formats.outputs_of(encoder, IMAGES), {"projection": expected}, 1e-5)


@pytest.mark.parametrize(
    ("part", "form"),
    [
        # Of the projector one will do: formats differ in how a model is written.
        pytest.param(part, form, marks=() if part == "backbone" else pytest.mark.slow)
        for part in networks.PARTS
        for form in formats.FORMATS
    ],
)
def test_export_computes_what_the_model_computes(form, part, run_folder, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    network = networks.network_of_run(run_folder, "target", part)
    path = tmp_path / formats.FORMATS[form][0]
    formats.write(network, form, path, size=24)
    limit = {"tflite": 1e-2}.get(form, 1e-4)
    expected = formats.outputs_of(network, IMAGES)
    assert sorted(expected) == (FEATURES if part == "backbone" else ["projection"])
    close(formats.run(form, path, IMAGES), expected, limit)
    assert formats.check(network, form, path, 24) <= limit
    if form == "onnx":
        larger = np.random.default_rng(1).random((3, 31, 40, 3), np.float32)
        expected = formats.outputs_of(network, larger)
        close(formats.run(form, path, larger), expected)


def test_export_of_other_weights_does_not_pass_the_check(run_folder, tmp_path):
    online, target = (
        networks.network_of_run(run_folder, network) for network in networks.NETWORKS
    )
    formats.write(online, "keras", tmp_path / "model.keras", size=24)
    with pytest.raises(RuntimeError, match="differs from the model by"):
        formats.check(target, "keras", tmp_path / "model.keras", 24)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("offline", "backbone"), "--network must be one of"),
        (("online", "predictor"), "--part must be one of"),
    ],
)
def test_unknown_network_or_part_is_refused(arguments, message, run_folder):
    with pytest.raises(ValueError, match=message):
        networks.network_of_run(run_folder, *arguments)


def test_run_without_a_checkpoint_has_no_target(model, tmp_path):
    export_backbone(model.online.backbone, tmp_path / "export")
    assert networks.network_of_run(tmp_path).name == "resnet18"
    with pytest.raises(ValueError, match="must hold a checkpoint"):
        networks.network_of_run(tmp_path, "target")


def rewrite(run_folder, folder, change):
    export = run_folder / "export" / "backbone.keras"
    (folder / "export").mkdir()
    (folder / "export/backbone.keras").write_bytes(export.read_bytes())
    source = CheckpointFolder(run_folder / "checkpoints")
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(7, change(source.newest().arrays), {})
    checkpoints.close()


def test_checkpoint_of_another_backbone_is_refused(run_folder, tmp_path):
    rewrite(run_folder, tmp_path, lambda x: {**x, "target/0000": np.zeros(3)})
    with pytest.raises(ValueError, match="of the backbone that it has exported"):
        networks.network_of_run(tmp_path, "target")


def test_projector_of_another_kind_is_refused(run_folder, tmp_path):
    def without_last(arrays):
        last = max(name for name in arrays if name.startswith("target/"))
        return {name: value for name, value in arrays.items() if name != last}

    rewrite(run_folder, tmp_path, without_last)
    with pytest.raises(ValueError, match="needs the projector of"):
        networks.network_of_run(tmp_path, "target", "projector")


def test_formats_are_known_and_a_missing_extra_is_named(monkeypatch):
    with pytest.raises(ValueError, match="--format must be one of"):
        formats.check_format("torch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"byol_keras\[onnx\]\""):
        formats.check_format("onnx")
    formats.check_format("tflite")


def test_card_tells_data_recipe_scores_and_licence(tmp_path):
    (tmp_path / "operative_config.gin").write_text("image_folder.path = 'cats'\n")
    (tmp_path / "benchmarks").mkdir()
    results = {"results": {"trained": {"knn/top1_k20": 81.55}}}
    (tmp_path / "benchmarks/knn.json").write_text(json.dumps(results))
    card = model_card(tmp_path, "BYOL", {"file": "model.onnx"}, "CC0-1.0")
    for line in (
        "| knn | knn/top1_k20 | 81.55 |",
        "image_folder.path = 'cats'",
        "| licence | CC0-1.0 |",
        "| file | model.onnx |",
    ):
        assert line in card.splitlines()


def test_later_scores_come_into_the_cards_and_leave_the_rest_as_it_is(tmp_path):
    for folder in (tmp_path / "export", tmp_path / "export/online_backbone_onnx"):
        folder.mkdir()
        path = write_card(tmp_path, folder, "BYOL", {"a": "b"}, "MIT")
        path.write_text(path.read_text().replace("terms", "words"))
    (tmp_path / "benchmarks").mkdir()
    results = {"results": {"trained": {"knn/top1_k20": 81.55}}}
    (tmp_path / "benchmarks/knn.json").write_text(json.dumps(results))
    rewrite_scores(tmp_path)
    expected = model_card(tmp_path, "BYOL", {"a": "b"}, "MIT")
    for path in (tmp_path / "export").rglob("MODEL_CARD.md"):
        assert path.read_text() == expected.replace("terms", "words")
    assert "| knn | knn/top1_k20 | 81.55 |" in expected


def test_card_says_what_it_does_not_know(tmp_path):
    card = model_card(tmp_path, "BYOL", {})
    assert "| licence | not stated |" in card
    assert "No benchmark of this run has been found." in card
    assert "not in the run folder" in card


run = functools.partial(command_line, "export")


@pytest.mark.slow
def test_command_line_writes_the_export_and_its_card(run_folder):
    given = (f"--model_dir={run_folder}", "--format=tflite", "--network=target")
    done = run(*given, "--size=24", "--licence=CC0-1.0")
    assert done.returncode == 0, done.stderr
    folder = run_folder / "export/target_backbone_tflite"
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "model.tflite",
    ]
    assert "| licence | CC0-1.0 |" in done.stdout


@pytest.mark.slow
def test_command_line_ends_with_one_line(tmp_path):
    done = run(f"--model_dir={tmp_path}", "--format=torch")
    assert done.returncode == 2
    assert done.stderr.count("error: --format must be one of") == 1
