"""Networks of a run compute what the networks of training compute."""

import json

import numpy as np
import pytest

from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.export import export_backbone, load_backbone
from byol_keras.export.formats import outputs_of
from byol_keras.export.networks import NETWORKS, network_of_run

from support.exports import IMAGES, assert_close


@pytest.mark.parametrize("network", NETWORKS)
def test_backbone_has_the_outputs_of_training(network, model, run_folder):
    backbone = network_of_run(run_folder, network)
    expected = getattr(model, network).backbone
    found = outputs_of(backbone, IMAGES)
    assert_close(found, outputs_of(expected, IMAGES), 1e-6)


def test_online_and_target_differ(run_folder):
    online, target = (
        network_of_run(run_folder, network)(IMAGES)["avgpool"] for network in NETWORKS
    )
    assert np.abs(online - target).max() > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_projector_has_the_outputs_of_training(network, model, run_folder):
    encoder = network_of_run(run_folder, network, "projector")
    expected = getattr(model, network)(IMAGES, training=False)
    assert_close(outputs_of(encoder, IMAGES), {"projection": expected}, 1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("offline", "backbone"), "network must be one of"),
        (("online", "predictor"), "part must be one of"),
    ],
)
def test_unknown_network_or_part_is_refused(arguments, message, run_folder):
    with pytest.raises(ValueError, match=message):
        network_of_run(run_folder, *arguments)


def test_run_without_a_checkpoint_has_only_the_online_backbone(model, tmp_path):
    export_backbone(model.online.backbone, tmp_path / "export")
    assert network_of_run(tmp_path).name == "resnet18"
    with pytest.raises(ValueError, match="must hold a checkpoint"):
        network_of_run(tmp_path, "target")


def test_online_backbone_of_an_interrupted_run_is_that_of_its_checkpoint(
    model, run_folder, tmp_path
):
    copy_with_changes(run_folder, tmp_path, lambda arrays: arrays)
    other = load_backbone(run_folder)
    other.set_weights([0.5 * weight for weight in other.get_weights()])
    export_backbone(other, tmp_path / "export")  # of an earlier step
    start = {"step": 0, "total_steps": 9, "seconds": 1.0}
    for starts, expected in (
        ([start], other),
        ([start, {"step": 9, "total_steps": 18}], model.online.backbone),
    ):
        (tmp_path / "environment.json").write_text(json.dumps(starts))
        found = outputs_of(network_of_run(tmp_path), IMAGES)
        assert_close(found, outputs_of(expected, IMAGES), 1e-6)


def copy_with_changes(run_folder, folder, change):
    export = run_folder / "export" / "backbone.keras"
    (folder / "export").mkdir()
    (folder / "export/backbone.keras").write_bytes(export.read_bytes())
    source = CheckpointFolder(run_folder / "checkpoints")
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(7, change(source.newest().arrays), {})
    checkpoints.close()


def test_checkpoint_of_another_backbone_is_refused(run_folder, tmp_path):
    copy_with_changes(run_folder, tmp_path, lambda x: {**x, "target/0000": np.zeros(3)})
    with pytest.raises(ValueError, match="a checkpoint of the exported backbone"):
        network_of_run(tmp_path, "target")


def test_projector_of_another_kind_is_refused(run_folder, tmp_path):
    def without_last(arrays):
        last = max(name for name in arrays if name.startswith("target/"))
        return {name: value for name, value in arrays.items() if name != last}

    copy_with_changes(run_folder, tmp_path, without_last)
    with pytest.raises(ValueError, match="for a projector other than mlp_head"):
        network_of_run(tmp_path, "target", "projector")


def test_standardized_projector_applies_the_statistics_of_the_run(run_folder, tmp_path):
    plain = outputs_of(network_of_run(run_folder, "target", "projector"), IMAGES)
    mean = np.linspace(-1.0, 1.0, plain["projection"].shape[1], dtype="float32")
    variance = np.full_like(mean, 4.0)

    def with_statistics(arrays):
        count = sum(name.startswith("target/") for name in arrays)
        statistics = {count: mean, count + 1: variance}
        return arrays | {f"target/{i:04d}": value for i, value in statistics.items()}

    copy_with_changes(run_folder, tmp_path, with_statistics)
    found = outputs_of(network_of_run(tmp_path, "target", "projector"), IMAGES)
    expected = (plain["projection"] - mean) / np.sqrt(4.0 + 1e-5)
    assert_close(found, {"projection": expected}, 1e-5)
