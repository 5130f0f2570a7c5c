"""Arrays of other systems' files are read exactly, and nothing else happens."""

import collections
import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from byol_keras.interop import files
from byol_keras.interop.files import read_file

from support.models import _text, torch_pickle, write_torch_legacy, write_torch_zip

safetensors_numpy = pytest.importorskip("safetensors.numpy")

RNG = np.random.default_rng(0)
ARRAYS = {
    "a.weight": RNG.standard_normal((3, 2, 5, 5)).astype(np.float32),
    "a.half": RNG.standard_normal(4).astype(np.float16),
    "a.double": RNG.standard_normal((2, 2)),
    "a.num_batches_tracked": np.array(5, np.int64),
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_torch_files_give_their_tensors_bit_by_bit(write, tmp_path):
    file = read_file(write(tmp_path / "weights.pth.tar", ARRAYS))
    assert file.kind == "torch"
    assert_same(file.arrays, ARRAYS)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_itself_writes_what_is_read(legacy, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value) for name, value in ARRAYS.items()}
    tensors["view"] = tensors["a.weight"][1:, :, ::2].transpose(0, 1)
    tensors["parameter"] = torch.nn.Parameter(torch.arange(3.0))
    tensors["bfloat16"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    content = {"state_dict": tensors, "epoch": 3, "shape": torch.Size([1])}
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_same(
        read_file(path).arrays,
        {
            f"state_dict/{k}": t.detach().float().numpy()
            if k == "bfloat16"
            else t.detach().numpy()
            for k, t in tensors.items()
        },
    )


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_bfloat16_of_torch_becomes_the_same_float32(write, tmp_path):
    bits = np.array([0x3FC0, 0xC000, 0x7F80], np.uint16)
    arrays = read_file(write(tmp_path / "weights.pth", {"w": bits})).arrays
    assert_same(arrays, {"w": np.array([1.5, -2.0, np.inf], np.float32)})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_of_arrays_gives_them_bit_by_bit(protocol, tmp_path):
    tree = {
        "params": collections.OrderedDict(a={"w": ARRAYS["a.weight"]}),
        "states": [ARRAYS["a.half"], (np.asfortranarray(ARRAYS["a.double"]),)],
        "big_endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(0.5),
        "step": 3,
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    expected = {
        "params/a/w": ARRAYS["a.weight"],
        "states/0": ARRAYS["a.half"],
        "states/1/0": ARRAYS["a.double"],
        "big_endian": tree["big_endian"],
        "scalar": np.array(0.5),
    }
    assert_same(read_file(path).arrays, expected)


def test_containers_of_other_systems_count_as_what_they_hold(tmp_path):
    w = pickle.dumps(ARRAYS["a.half"], protocol=2)[2:-1]  # without PROTO and STOP
    tree = b"}" + _text("w") + w + b"s"
    fields = b"(" + _text("online_params") + _text("step") + b"t"
    named = b"cdill._dill\n_create_namedtuple\n(" + _text("State") + fields
    contents = {
        "byol": b"cbyol.byol_experiment\n_ByolExperimentState\n(" + tree + b"t\x81",
        "dill": named + _text("m") + b"tR(" + tree + b"K\x03t\x81",
        "flat": b"chaiku._src.data_structures\nFlatMapping\n" + tree + b"\x85R",
        "frozen": b"chaiku._src.data_structures\nfrozendict\n)\x81}"
        + (_text("_storage") + tree + b"sb"),
        "items": b"ccollections\ndefaultdict\n)R" + _text("w") + w + b"s",
        "list": b"ccollections\ndeque\n)R(" + w + w + b"e",
        "several": b"coptax\nTrace\n(" + w + tree + b"tR",
        "cycle": b"]q\x07" + w + b"ah\x07a",
    }
    expected = {
        "byol": ["online_params/w"],
        "dill": ["online_params/w"],
        "flat": ["w"],
        "frozen": ["w"],
        "items": ["w"],
        "list": ["0", "1"],
        "several": ["0", "1/w"],
        "cycle": ["0"],
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(b"\x80\x02" + content + b".")
        arrays = read_file(path).arrays
        assert list(arrays) == expected[name], name
        for array in arrays.values():
            np.testing.assert_array_equal(array, ARRAYS["a.half"])


def test_safetensors_give_their_tensors_and_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = dict(sorted(ARRAYS.items()))
    safetensors_numpy.save_file(arrays, path, {"format": "pt"})
    file = read_file(path)
    assert (file.kind, file.metadata) == ("safetensors", {"format": "pt"})
    assert_same(dict(sorted(file.arrays.items())), arrays)


def raw_safetensors(kind, data, shape):
    head = (
        f'{{"w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{len(data)}]}}}}'
    )
    head = head.encode().ljust(-(-len(head) // 8) * 8)
    return len(head).to_bytes(8, "little") + head + data


def test_bfloat16_of_safetensors_becomes_the_same_float32(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(raw_safetensors("BF16", b"\xc0\x3f\x00\xc0", [2, 1]))
    assert_same(read_file(path).arrays, {"w": np.array([[1.5], [-2.0]], np.float32)})


def test_missing_safetensors_is_named_with_its_command(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    safetensors_numpy.save_file(ARRAYS, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[interop\]"'):
        read_file(path)


class Call:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Pickles that run something where one reads them as usual, by name."""
    command = f"touch {marker}"
    system = Call(os.system, command)
    name = f"{os.system.__module__}.system"
    yield "call", pickle.dumps(system), name
    yield (
        "text",
        f"cos\nsystem\n(S'{command}'\ntR.".encode().replace(b"cos", b"\x80\x02cos"),
        "os.system",
    )
    yield "nested", pickle.dumps({"params": [ARRAYS, ({"w": system},)]}, 2), name
    yield (
        "beside",
        pickle.dumps([np.zeros(2), Call(exec, f"open({marker!r}, 'w')")]),
        "exec",
    )
    yield (
        "stack",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93"
        + pickle.dumps((command,))[2:-1]
        + b"R.",
        "os.system",
    )
    yield "numpy", b"\x80\x02cnumpy\nload\n" + _text(marker) + b"\x85R.", "numpy.load"
    yield "haiku", b"\x80\x02chaiku_evil\nrun\n)R.", "haiku_evil.run"
    yield (
        "importer",
        b"\x80\x02cdill._dill\n_import_module\n" + _text("antigravity") + b"\x85R.",
        "_import_module",
    )


@pytest.mark.parametrize("index", range(8))
def test_malicious_pickle_is_refused_and_runs_nothing(index, tmp_path):
    marker = tmp_path / "marker"
    kind, content, named = list(attacks(str(marker)))[index]
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="nothing was run") as caught:
        read_file(path)
    assert named in str(caught.value), kind
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_the_attack_works_where_pickles_are_trusted(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(next(content for _, content, _ in attacks(str(marker))))
    assert marker.exists()


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
@pytest.mark.parametrize("module", ["os", "posix", "torch.hub", "torch.serialization"])
def test_malicious_torch_file_is_refused_and_runs_nothing(write, module, tmp_path):
    marker = tmp_path / "marker"
    call = f"c{module}\nsystem\n".encode() + _text(f"touch {marker}") + b"\x85R"
    path = write(tmp_path / "weights.pth", ARRAYS, _text("z") + call)
    with pytest.raises(ValueError, match=rf"nothing was run.*names {module}\.system"):
        read_file(path)
    assert not marker.exists()


def test_inert_names_are_never_called(tmp_path):
    marker = tmp_path / "marker"
    run = (
        b"cbuiltins\ngetattr\n(" + b"cmmengine.fileio\nload\n" + _text("system") + b"tR"
    )
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02]" + run + b"acsolo.args\nrun\n" + _text(str(marker)) + b"\x85Ra."
    )
    assert read_file(path).arrays == {}
    assert not marker.exists()


def test_result_of_an_inert_call_cannot_be_called(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\ngetattr\n)R" + _text("id") + b"\x85R.")
    with pytest.raises(ValueError, match="not callable"):
        read_file(path)


def test_stand_ins_cannot_be_changed_by_a_pickle(tmp_path):
    path = tmp_path / "weights.pkl"
    for name in (b"coptax\nX\n", b"cnumpy\nndarray\n", b"ctorch\nSize\n"):
        path.write_bytes(b"\x80\x02" + name + b"N}" + _text("children") + b"Ns\x86b.")
        with pytest.raises(ValueError, match="--from must"):
            read_file(path)


def broken(tmp_path):
    """Contents of files that are damaged, and a part of what is said of them."""
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
        "--from must be a file that is whole",
    )
    yield "larger", with_pickle(larger, bytes(36)), "larger than its storage"
    yield "objects", pickle.dumps(np.array([{}], object)), "other than numbers"
    yield "text", b"neither of them", "must be a safetensors file"
    yield "safetensors", b"\xff" * 8 + b"{}", "whole"
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
    with pytest.raises(ValueError, match="--from must") as caught:
        read_file(path)
    assert said in str(caught.value), kind
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"existing file\. Received: .*none"):
        files.read_file(tmp_path / "none.pth")
