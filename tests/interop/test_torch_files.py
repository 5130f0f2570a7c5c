"""Tensors of `torch.save` are read exactly, and no code from its files is executed."""

import numpy as np
import pytest

from byol_keras.interop.files import read_file

from support.foreign_arrays import ARRAYS, assert_same_arrays
from support.models import pickled_text, write_torch_legacy, write_torch_zip


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_tensors_of_torch_files_are_bit_exact(write, tmp_path):
    file = read_file(write(tmp_path / "weights.pth.tar", ARRAYS))
    assert file.kind == "torch"
    assert_same_arrays(file.arrays, ARRAYS)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_written_by_torch_itself_are_read(legacy, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value) for name, value in ARRAYS.items()}
    tensors["view"] = tensors["a.weight"][1:, :, ::2].transpose(0, 1)
    tensors["parameter"] = torch.nn.Parameter(torch.arange(3.0))
    tensors["bfloat16"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    content = {"state_dict": tensors, "epoch": 3, "shape": torch.Size([1])}
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_same_arrays(
        read_file(path).arrays,
        {
            f"state_dict/{k}": t.detach().float().numpy()
            if k == "bfloat16"
            else t.detach().numpy()
            for k, t in tensors.items()
        },
    )


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_bfloat16_of_torch_is_converted_to_equal_float32(write, tmp_path):
    bits = np.array([0x3FC0, 0xC000, 0x7F80], np.uint16)
    arrays = read_file(write(tmp_path / "weights.pth", {"w": bits})).arrays
    assert_same_arrays(arrays, {"w": np.array([1.5, -2.0, np.inf], np.float32)})


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
@pytest.mark.parametrize("module", ["os", "posix", "torch.hub", "torch.serialization"])
def test_malicious_torch_file_is_refused_without_executing_code(
    write, module, tmp_path
):
    marker = tmp_path / "marker"
    call = f"c{module}\nsystem\n".encode() + pickled_text(f"touch {marker}") + b"\x85R"
    path = write(tmp_path / "weights.pth", ARRAYS, pickled_text("z") + call)
    with pytest.raises(
        ValueError, match=rf"no code from it was executed.*names {module}\.system"
    ):
        read_file(path)
    assert not marker.exists()
