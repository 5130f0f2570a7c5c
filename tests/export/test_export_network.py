"""Exporting a network writes the model and its card, or nothing."""

import shutil

import pytest

from byol_keras.export import formats, load_backbone
from byol_keras.export.digest import backbone_digest, exported_digests
from byol_keras.export.export_network import export_network


def test_folder_has_the_model_and_its_card(run_folder):
    folder = export_network(run_folder, "keras", "target", "projector", 24, "MIT")
    assert folder == run_folder / "export/target_projector_keras"
    assert {path.name for path in folder.iterdir()} == {
        "MODEL_CARD.md",
        "digests.json",
        "model.keras",
    }
    lines = (folder / "MODEL_CARD.md").read_text().splitlines()
    for line in (
        "| network | target, projector |",
        "| input | float32 [B, H, W, 3] in 0..1 |",
        "| outputs | projection |",
        "| licence | MIT |",
    ):
        assert line in lines


def test_network_has_a_digest_of_its_own(run_folder):
    folder = export_network(run_folder, "keras", "target", "backbone", 24)
    (digest,) = exported_digests(folder)
    assert digest == backbone_digest(load_backbone(folder / "model.keras"))
    assert digest not in exported_digests(run_folder / "export")


def test_unknown_format_is_refused_before_the_run_is_read(tmp_path):
    with pytest.raises(ValueError, match="file_format must be one of"):
        export_network(tmp_path, "torch", "online", "backbone", 24)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("older", [False, True])
def test_failed_export_leaves_what_was_there(older, run_folder, tmp_path, monkeypatch):
    shutil.copytree(run_folder, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "export/online_backbone_keras"
    if older:
        folder.mkdir()
        (folder / "model.keras").write_text("older")

    def fail(*arguments):
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(formats, "run", fail)
    with pytest.raises(RuntimeError, match="no such operator"):
        export_network(tmp_path, "keras", "online", "backbone", 24)
    assert folder.exists() == older
    if older:
        assert [path.read_text() for path in folder.iterdir()] == ["older"]


def test_folder_that_cannot_be_written_is_refused_by_name(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "export/online_backbone_keras").write_text("in the way")
    rule = r"^model_dir must be a folder that can be written\. .* \(File exists\)$"
    with pytest.raises(ValueError, match=rule):
        export_network(tmp_path, "keras", "online", "backbone", 24)
