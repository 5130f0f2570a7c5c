"""The digest of a backbone identifies its weights and its configuration."""

import shutil

import keras
import numpy as np
import pytest

from byol_keras.export import digest, export_backbone, load_backbone
from byol_keras.export.digest import (
    backbone_digest,
    exported_digests,
    note_digest,
    note_evaluated,
)


@pytest.fixture(scope="module")
def backbone():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


def test_exports_of_the_same_weights_have_the_same_digest(backbone, tmp_path):
    digests = []
    for _ in range(2):
        export_backbone(backbone, tmp_path)
        digests.append(backbone_digest(load_backbone(tmp_path)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("kind", ["backbone.keras", "saved_model"])
def test_smallest_change_of_one_weight_changes_the_digest(kind, backbone, tmp_path):
    export_backbone(backbone, tmp_path)
    first, second = (load_backbone(tmp_path / kind) for _ in range(2))
    assert backbone_digest(first) == backbone_digest(second)
    weight = second.weights[0]
    weight.assign(np.nextafter(weight.numpy(), np.float32(9)))
    assert backbone_digest(first) != backbone_digest(second)


def test_configurations_with_equal_weights_have_different_digests():
    def with_stride(strides):
        layer = keras.layers.Conv2D(
            1, 3, strides=strides, kernel_initializer="ones", name="conv"
        )
        images = keras.Input((8, 8, 1), name="images")
        return keras.Model(images, layer(images), name="backbone")

    digests = [backbone_digest(with_stride(s)) for s in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


@pytest.fixture
def run(backbone, tmp_path):
    """A run folder with an export."""
    export_backbone(backbone, tmp_path / "run/export")
    return tmp_path / "run"


@pytest.fixture
def loads(monkeypatch):
    """Paths of the backbones that `exported_digests` loads."""
    found = []

    def load(path):
        found.append(path.name)
        return load_backbone(path)

    monkeypatch.setattr(digest, "load_backbone", load)
    return found


def test_export_is_loaded_once_for_its_digest(run, loads):
    expected = {backbone_digest(load_backbone(run))}
    assert exported_digests(run / "export") == expected
    assert exported_digests(run / "export") == expected
    assert loads == ["backbone.keras"]


def test_digest_of_an_evaluated_export_is_not_computed_again(run, loads):
    expected = backbone_digest(load_backbone(run))
    note_evaluated(run, expected, run)
    assert exported_digests(run / "export") == {expected}
    assert loads == []


def test_saved_model_of_the_export_is_the_same_backbone(run):
    of_file = backbone_digest(load_backbone(run))
    path = run / "export/saved_model"
    of_saved_model = backbone_digest(load_backbone(path))
    assert of_saved_model != of_file
    note_evaluated(path, of_saved_model, run)
    assert exported_digests(run / "export") == {of_file, of_saved_model}


def test_digests_of_an_earlier_export_are_forgotten(run):
    for path in (run, run / "export/saved_model"):
        note_evaluated(path, backbone_digest(load_backbone(path)), run)
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    export_backbone(keras.Model(images, {"avgpool": pooled}), run / "export")
    expected = {backbone_digest(load_backbone(run))}
    assert exported_digests(run / "export") == expected


def test_copied_export_keeps_its_digests(run, tmp_path, loads):
    expected = exported_digests(run / "export")
    shutil.copytree(run / "export", tmp_path / "copy")
    assert exported_digests(tmp_path / "copy") == expected
    assert loads == ["backbone.keras"]


def test_nothing_is_noted_of_backbones_outside_of_the_run(run, backbone, tmp_path):
    export_backbone(backbone, tmp_path / "other")
    note_evaluated(tmp_path / "other", "0ther", run)
    assert exported_digests(run / "export") == {backbone_digest(load_backbone(run))}
    assert not (tmp_path / "other/digests.json").exists()


def test_file_of_another_format_has_the_digest_of_its_model(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"weights")
    note_digest(file, "a1")
    assert exported_digests(tmp_path) == {"a1"}
    file.write_bytes(b"others")
    assert exported_digests(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_unreadable_notes_are_replaced(text, run):
    (run / "export/digests.json").write_text(text)
    expected = {backbone_digest(load_backbone(run))}
    assert exported_digests(run / "export") == expected


def test_export_that_is_absent_or_broken_has_no_digest(tmp_path):
    assert exported_digests(tmp_path) == set()
    (tmp_path / "backbone.keras").write_bytes(b"PK broken")
    assert exported_digests(tmp_path) == set()


def test_folder_that_cannot_be_written_is_read_every_time(run, loads, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(digest, "write_text", refuse)
    first, second = (exported_digests(run / "export") for _ in range(2))
    assert first == second == {backbone_digest(load_backbone(run))}
    assert loads == ["backbone.keras"] * 2
