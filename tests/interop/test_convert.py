"""Conversions are exact in both directions, and write nothing on an error."""

import numpy as np
import pytest

from byol_keras import backbones
from byol_keras.export import load_backbone
from byol_keras.interop.convert import to_keras, to_safetensors
from byol_keras.interop.files import read_file

from support.models import torch_weights, write_torch_zip

pytest.importorskip("safetensors")


def test_round_trip_through_safetensors_is_bit_exact(tmp_path):
    ours = backbones.resnet18(1, 0.125, "small", "torch", mean=[0.3], std=[0.7])
    ours.save(tmp_path / "ours.keras")
    middle, target = tmp_path / "ours.safetensors", tmp_path / "back.keras"
    written = to_safetensors(tmp_path / "ours.keras", middle)
    assert (len(written.shapes), written.numbers) == (100, 176_808)
    assert '"stem": "small"' in written.metadata["byol_keras"]
    assert len(read_file(middle).arrays) == 100
    to_keras(middle, target)
    back = load_backbone(target)
    images = np.random.default_rng(0).random((1, 30, 41, 1), np.float32)
    for name, expected in ours(images, training=False).items():
        np.testing.assert_array_equal(back(images, training=False)[name], expected)


def test_nothing_is_written_for_a_file_that_does_not_fit(tmp_path):
    weights = torch_weights(18, 4)
    del weights["bn1.bias"]
    source = write_torch_zip(tmp_path / "resnet.pth", weights)
    with pytest.raises(ValueError, match=r"without bn1\.bias"):
        to_keras(source, tmp_path / "b.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["resnet.pth"]
