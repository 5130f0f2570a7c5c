"""Exports in every format have the outputs of the model."""

import numpy as np
import pytest

from byol_keras.export import formats
from byol_keras.export.networks import NETWORKS, PARTS, network_of_run

from support.exports import IMAGES, assert_close

FEATURES = sorted(["avgpool", *(f"feature{n}" for n in range(1, 6))])


@pytest.mark.parametrize(
    ("part", "file_format"),
    [
        # Formats write both parts alike: those of the projector are slow tests.
        pytest.param(
            part, file_format, marks=() if part == "backbone" else pytest.mark.slow
        )
        for part in PARTS
        for file_format in formats.FORMATS
    ],
)
def test_export_has_the_outputs_of_the_model(file_format, part, run_folder, tmp_path):
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    network = network_of_run(run_folder, "target", part)
    path = tmp_path / formats.FORMATS[file_format][0]
    formats.write(network, file_format, path, size=24)
    limit = {"tflite": 1e-2}.get(file_format, 1e-4)
    expected = formats.outputs_of(network, IMAGES)
    assert sorted(expected) == (FEATURES if part == "backbone" else ["projection"])
    assert_close(formats.run(file_format, path, IMAGES), expected, limit)
    assert formats.check(network, file_format, path, 24) <= limit
    if file_format == "onnx":
        larger = np.random.default_rng(1).random((3, 31, 40, 3), np.float32)
        expected = formats.outputs_of(network, larger)
        assert_close(formats.run(file_format, path, larger), expected)


def test_export_of_other_weights_fails_the_check(run_folder, tmp_path):
    online, target = (network_of_run(run_folder, network) for network in NETWORKS)
    formats.write(online, "keras", tmp_path / "model.keras", size=24)
    with pytest.raises(RuntimeError, match="differs from the model by"):
        formats.check(target, "keras", tmp_path / "model.keras", 24)


def test_unknown_format_is_refused_and_a_missing_extra_is_named(monkeypatch):
    with pytest.raises(ValueError, match="file_format must be one of"):
        formats.check_format("torch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"byol_keras\[onnx\]\""):
        formats.check_format("onnx")
    formats.check_format("tflite")
