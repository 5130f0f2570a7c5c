"""Reads pickles of arrays without executing any code that they name.

A pickle is a program: it can call any function by name. Here each known name is
replaced by a class of this module or of `torch_files` that stores its arguments and
calls nothing. An unknown name is an error.
"""

import collections
import pickle
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

# Codes of NumPy's types of numbers; an array of objects could hold anything.
_NUMBERS = re.compile(r"[?bBhHiIlLqQefd]|[biuf]\d{1,2}|b1")
# Packages whose classes may occur beside the weights, in the state of a training run.
_INERT = re.compile(
    r"(argparse|byol|haiku|lightning|lightning_fabric|mmcls|mmcv|mmengine|mmpretrain"
    r"|mmselfsup|omegaconf|optax|pytorch_lightning|solo)(\.|$)"
)
# Field names of tuples that are pickled by position.
_FIELDS = {
    "_ByolExperimentState": (
        "online_params",
        "target_params",
        "online_state",
        "target_state",
        "opt_state",
    ),
    "_EvalExperimentState": (
        "backbone_params",
        "classif_params",
        "backbone_state",
        "backbone_opt_state",
        "classif_opt_state",
    ),
}


class ForbiddenName(pickle.UnpicklingError):
    """A pickle names something other than arrays and containers of arrays."""


class _Sealed(type):
    """Classes whose attributes a pickle cannot set."""

    def __setattr__(cls, name, value):
        raise ForbiddenName(f"an attribute {name!r} for a class")


class StandIn(metaclass=_Sealed):
    """Replaces a class or a function that a pickle names; calls nothing."""

    def __setstate__(self, state):
        raise pickle.UnpicklingError(f"{type(self).__name__} takes no state")


class Record(StandIn):
    """Replaces an object of any other class: stores its arguments, state and items."""

    fields = ()

    # Some opcodes make objects without `__init__`.
    def __new__(cls, *args, **_):
        self = super().__new__(cls)
        self.args, self.state, self.items = args, None, {}
        return self

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.items[key] = value

    def append(self, value):
        """Stores an item, as for a list."""
        self.items[len(self.items)] = value

    def extend(self, values):
        """Stores items, as for a list."""
        for value in values:
            self.append(value)

    def children(self) -> dict:
        """Contents by name; a wrapper of one mapping has the mapping's contents."""
        if self.fields:
            return dict(zip(self.fields, self.args, strict=False))
        parts = [part for part in (self.items, self.state, *self.args) if part]
        if len(parts) != 1 or not isinstance(parts[0], dict):
            return dict(enumerate(parts))
        stored = parts[0].get("_storage")  # of haiku's frozendict
        return stored if isinstance(stored, dict) else parts[0]


class StoredArray(StandIn):
    """An array of a file."""

    def array(self) -> np.ndarray:
        """Its values."""
        raise NotImplementedError


class _Bytes(StandIn):
    """`_codecs.encode`, with which old protocols write bytes as text."""

    def __new__(cls, text, encoding):
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        return text.encode("latin1")


class _NamedTuple(StandIn):
    """dill's `_create_namedtuple`, which makes a class of records."""

    def __new__(cls, name, fields, module, *_):
        return _record_class(name, tuple(map(str, fields)))


class _DType(StandIn):
    """`numpy.dtype`."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of other than numbers, {code!r}")
        self.numpy = np.dtype(code)

    def __setstate__(self, state):
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part for part in state[2:5]):
            raise pickle.UnpicklingError("an array of records")
        if order != "|":
            self.numpy = self.numpy.newbyteorder(order)


class _Array(StoredArray):
    """`numpy.ndarray`, and the function that makes an empty array to fill."""

    def __init__(self, *_):
        self._values = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        order = "F" if is_fortran else "C"
        self._values = np.frombuffer(data, dtype.numpy).reshape(shape, order=order)

    def array(self):
        if self._values is None:
            raise pickle.UnpicklingError("an array without values")
        return self._values


class _BufferArray(StoredArray):
    """The function with which protocol 5 makes an array."""

    def __init__(self, data, dtype, shape, order):
        self._values = np.frombuffer(data, dtype.numpy).reshape(shape, order=order)

    def array(self):
        return self._values


class _Scalar(StoredArray):
    """One number of NumPy's."""

    def __init__(self, dtype, data):
        self._values = np.frombuffer(data, dtype.numpy).reshape(())

    def array(self):
        return self._values


class _MadeArray(_Array):
    """A function that makes a NumPy array, and the array's state; from dill and JAX."""

    def __init__(self, function, args, state, *_):
        super().__init__()
        self.__setstate__(state)


_CLASSES = {
    ("_codecs", "encode"): _Bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("dill._dill", "_create_array"): _MadeArray,
    ("dill._dill", "_create_namedtuple"): _NamedTuple,
    ("jax._src.array", "_reconstruct_array"): _MadeArray,
    ("jax._src.device_array", "reconstruct_device_array"): _MadeArray,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _BufferArray),
        )
    },
}
# Names of the standard library that occur in settings and meters.
_INERT_NAMES = {
    (module, name)
    for module in ("builtins", "__builtin__")
    for name in ("complex", "dict", "float", "getattr", "int", "list", "set", "slice")
} | {
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("dill._dill", "_load_type"),
    ("pathlib", "PosixPath"),
    ("typing", "Any"),
}


class Unpickler(pickle.Unpickler):
    """Reads one pickle.

    Args:
        file: binary, at the first byte of the pickle.
        classes: replacements by module and name, besides those of NumPy's arrays.

    Raises:
        ForbiddenName: in `load`, if the pickle names anything else.
    """

    def __init__(self, file: BinaryIO, classes: dict[tuple[str, str], type] = {}):  # noqa: B006, never changed
        super().__init__(file)
        self._classes = _CLASSES | classes

    def find_class(self, module, name):
        found = self._classes.get((module, name))
        if found is None and ((module, name) in _INERT_NAMES or _INERT.match(module)):
            found = _record_class(name, _FIELDS.get(name, ()))
        if found is None:
            raise ForbiddenName(f"{module}.{name}")
        return found


def arrays_of(tree: Any) -> Iterator[tuple[str, StoredArray]]:
    """Arrays of a tree of containers with their paths, such as "state/0/weight".

    A container that occurs twice is visited once, at its first path.
    """
    stack, seen = [("", tree)], {}
    while stack:
        path, node = stack.pop()
        if isinstance(node, StoredArray):
            yield path, node
            continue
        if not _holds(node) or id(node) in seen:
            continue
        seen[id(node)] = node  # kept, so that no other object gets its id
        for key, child in reversed(_children(node)):
            name = str(key) if isinstance(key, (str, int)) else type(key).__name__
            stack.append((f"{path}/{name}" if path else name, child))


def _holds(node):
    return isinstance(node, (dict, list, tuple, set, frozenset, Record))


def _children(node):
    if isinstance(node, Record):
        node = node.children()
    return list(node.items() if isinstance(node, dict) else enumerate(node))


def _record_class(name, fields):
    return _Sealed(str(name), (Record,), {"fields": fields})
