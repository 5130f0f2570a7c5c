"""Arrays of pickles are read exactly, and no code from a pickle is executed."""

import collections
import os
import pickle

import numpy as np
import pytest

from byol_keras.interop.files import read_file

from support.foreign_arrays import ARRAYS, assert_same_arrays
from support.models import pickled_text


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_a_pickle_are_bit_exact(protocol, tmp_path):
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
    assert_same_arrays(read_file(path).arrays, expected)


def test_containers_of_other_systems_are_named_by_their_contents(tmp_path):
    w = pickle.dumps(ARRAYS["a.half"], protocol=2)[2:-1]  # without PROTO and STOP
    tree = b"}" + pickled_text("w") + w + b"s"
    fields = b"(" + pickled_text("online_params") + pickled_text("step") + b"t"
    named = b"cdill._dill\n_create_namedtuple\n(" + pickled_text("State") + fields
    contents = {
        "byol": b"cbyol.byol_experiment\n_ByolExperimentState\n(" + tree + b"t\x81",
        "dill": named + pickled_text("m") + b"tR(" + tree + b"K\x03t\x81",
        "flat": b"chaiku._src.data_structures\nFlatMapping\n" + tree + b"\x85R",
        "frozen": b"chaiku._src.data_structures\nfrozendict\n)\x81}"
        + (pickled_text("_storage") + tree + b"sb"),
        "items": b"ccollections\ndefaultdict\n)R" + pickled_text("w") + w + b"s",
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


class Call:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Pickles that execute code in pickle.loads: kind, content, forbidden name."""
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
    yield (
        "numpy",
        b"\x80\x02cnumpy\nload\n" + pickled_text(marker) + b"\x85R.",
        "numpy.load",
    )
    yield "haiku", b"\x80\x02chaiku_evil\nrun\n)R.", "haiku_evil.run"
    yield (
        "importer",
        b"\x80\x02cdill._dill\n_import_module\n"
        + pickled_text("antigravity")
        + b"\x85R.",
        "_import_module",
    )


@pytest.mark.parametrize("index", range(8))
def test_malicious_pickle_is_refused_without_executing_code(index, tmp_path):
    marker = tmp_path / "marker"
    kind, content, named = list(attacks(str(marker)))[index]
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no code from it was executed") as caught:
        read_file(path)
    assert named in str(caught.value), kind
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_attack_works_in_pickle_loads(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(next(content for _, content, _ in attacks(str(marker))))
    assert marker.exists()


def test_inert_names_are_never_called(tmp_path):
    marker = tmp_path / "marker"
    run = (
        b"cbuiltins\ngetattr\n("
        + b"cmmengine.fileio\nload\n"
        + pickled_text("system")
        + b"tR"
    )
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02]"
        + run
        + b"acsolo.args\nrun\n"
        + pickled_text(str(marker))
        + b"\x85Ra."
    )
    assert read_file(path).arrays == {}
    assert not marker.exists()


def test_result_of_an_inert_call_cannot_be_called(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\ngetattr\n)R" + pickled_text("id") + b"\x85R.")
    with pytest.raises(ValueError, match="not callable"):
        read_file(path)


def test_pickle_cannot_change_the_replacement_classes(tmp_path):
    path = tmp_path / "weights.pkl"
    for name in (b"coptax\nX\n", b"cnumpy\nndarray\n", b"ctorch\nSize\n"):
        path.write_bytes(
            b"\x80\x02" + name + b"N}" + pickled_text("children") + b"Ns\x86b."
        )
        with pytest.raises(ValueError, match="path must"):
            read_file(path)
