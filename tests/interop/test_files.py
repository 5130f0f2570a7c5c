"""The format of a file is recognised, and damage is reported in one line."""

import io
import pickle
import sys
import zipfile

import numpy as np
import pytest

from byol_keras.interop.files import read_file

from support.foreign_arrays import ARRAYS, assert_same_arrays
from support.models import torch_pickle, write_torch_legacy, write_torch_zip

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def test_safetensors_have_tensors_and_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = dict(sorted(ARRAYS.items()))
    safetensors_numpy.save_file(arrays, path, {"format": "pt"})
    file = read_file(path)
    assert (file.kind, file.metadata) == ("safetensors", {"format": "pt"})
    assert_same_arrays(dict(sorted(file.arrays.items())), arrays)


def raw_safetensors(kind, data, shape):
    head = (
        f'{{"w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{len(data)}]}}}}'
    )
    head = head.encode().ljust(-(-len(head) // 8) * 8)
    return len(head).to_bytes(8, "little") + head + data


def test_bfloat16_of_safetensors_is_converted_to_equal_float32(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(raw_safetensors("BF16", b"\xc0\x3f\x00\xc0", [2, 1]))
    assert_same_arrays(
        read_file(path).arrays, {"w": np.array([[1.5], [-2.0]], np.float32)}
    )


def test_missing_safetensors_is_named_with_its_command(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    safetensors_numpy.save_file(ARRAYS, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[interop\]"'):
        read_file(path)


def broken(tmp_path):
    """Damaged files: kind, content, and a part of the message."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", torch_pickle({"w": np.zeros(9, np.float32)}))
        file.writestr("archive/data/0", bytes(36))
    legacy = write_torch_legacy(tmp_path / "legacy", ARRAYS).read_bytes()
    other_order = write_torch_legacy(tmp_path / "big", ARRAYS, little_endian=False)
    big = write_torch_zip(tmp_path / "zip", ARRAYS, byteorder=b"big")
    larger = torch_pickle({"w": np.zeros(9, np.float32)}).replace(
        b"(J\x09\0\0\0t", b"(J\x0a\0\0\0t", 1
    )
    yield "compressed", archive.getvalue(), "not whole"
    yield "cut", legacy[:-1], "buffer"
    yield "order of a legacy file", other_order.read_bytes(), "big-endian"
    yield "order", big.read_bytes(), "big-endian"
    yield (
        "cut pickle",
        pickle.dumps(ARRAYS)[:-40],
        "path must be a complete file",
    )
    yield "larger", with_pickle(larger, bytes(36)), "larger than its storage"
    yield "objects", pickle.dumps(np.array([{}], object)), "other than numbers"
    yield "text", b"neither of them", "must be a safetensors file"
    yield "safetensors", b"\xff" * 8 + b"{}", "complete"
    yield "type", raw_safetensors("F8_E5M2", b"\0", [1]), "F8_E5M2"
    yield "empty", b"", "must be a safetensors file"


def with_pickle(content, storage):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/0", storage)
    return archive.getvalue()


@pytest.mark.parametrize("index", range(11))
def test_damaged_file_is_refused_in_one_line(index, tmp_path):
    kind, content, said = list(broken(tmp_path))[index]
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="path must") as caught:
        read_file(path)
    assert said in str(caught.value), kind
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"existing file\. Received: .*none"):
        read_file(tmp_path / "none.pth")
