"""Reads files of `torch.save` without torch, and without executing code from them."""

import contextlib
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from byol_keras.interop.pickles import (
    Record,
    StandIn,
    StoredArray,
    Unpickler,
    arrays_of,
)

# First pickle of a file that torch before 1.6 wrote; later versions write zip files.
_MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = pickle.dumps(_MAGIC, protocol=2)
_BFLOAT16 = "bfloat16"
# torch's names of a type, with and without "Storage" -> NumPy's.
_TYPES = {
    ("Bool", "bool"): "?",
    ("Byte", "uint8"): "u1",
    ("Char", "int8"): "i1",
    ("Short", "int16"): "i2",
    ("Int", "int32"): "i4",
    ("Long", "int64"): "i8",
    ("Half", "float16"): "f2",
    ("BFloat16", "bfloat16"): _BFLOAT16,
    ("Float", "float32"): "f4",
    ("Double", "float64"): "f8",
}


class _Type(StandIn):
    """A type of storage, or of numbers."""

    code = "u1"


def _type(name, code):
    return type(_Type)(name, (_Type,), {"code": code})


class _Storage(StandIn):
    """The bytes behind one or several tensors."""

    def __init__(self, code, read: Callable[[], bytes]):
        self.code = code
        self.read = read


class _Tensor(StoredArray):
    """`torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`: a view of storage."""

    def __init__(self, storage, offset, size, stride, *_):
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        numbers = (offset, *size, *stride)
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise pickle.UnpicklingError("a tensor of negative size")
        self._view = storage, offset, tuple(size), tuple(stride)
        self._code = storage.code

    def array(self):
        storage, offset, size, stride = self._view
        values = numbers_of(storage.read(), self._code)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and (last >= values.size or count > values.size):
            raise pickle.UnpicklingError("a tensor that is larger than its storage")
        strides = [s * values.itemsize for s in stride]
        return np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy()


class _TypedTensor(_Tensor):
    """`torch._utils._rebuild_tensor_v3`, whose storage has no type."""

    def __init__(self, storage, offset, size, stride, grad, hooks, dtype, *_):
        super().__init__(storage, offset, size, stride)
        self._code = dtype.code


class _Parameter(StandIn):
    """`torch._utils._rebuild_parameter`, which returns its tensor."""

    def __new__(cls, tensor, *_):
        return tensor


class _Other(Record):
    """Sizes and devices."""


_CLASSES = {
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _TypedTensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("torch", "Size"): _Other,
    ("torch", "device"): _Other,
    ("torch.storage", "UntypedStorage"): _Type,
    ("torch", "UntypedStorage"): _Type,
    **{
        ("torch", name): _type(name, code)
        for (storage, dtype), code in _TYPES.items()
        for name in (f"{storage}Storage", dtype)
    },
}


class _TorchUnpickler(Unpickler):
    """Reads a pickle that refers to storages.

    Args:
        file: binary.
        storage: a storage's key, number of values and bytes per value -> the function
            that reads it.
    """

    def __init__(self, file, storage: Callable[[str, int, int], Callable[[], bytes]]):
        super().__init__(file, _CLASSES)
        self._storage = storage

    def persistent_load(self, pid):
        kind, storage_type, key, _, count, *view = pid
        if kind != "storage" or any(view):
            raise pickle.UnpicklingError(
                "a reference to something other than a storage"
            )
        code = storage_type.code
        return _Storage(code, self._storage(str(key), int(count), _itemsize(code)))


def is_torch_zip(path: Path) -> bool:
    """Whether a file is a zip file of `torch.save`."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(_is_pickle(name) for name in archive.namelist())


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a zip file of `torch.save`, by path in its tree.

    Raises:
        pickle.UnpicklingError: if the file is damaged, or names anything but tensors.
    """
    with zipfile.ZipFile(path) as archive:
        (root,) = [n for n in archive.namelist() if _is_pickle(n)]
        root = root.removesuffix("data.pkl")
        with contextlib.suppress(KeyError):
            if archive.read(f"{root}byteorder") != b"little":
                raise pickle.UnpicklingError("numbers in big-endian order")

        def storage(key, count, itemsize):
            entry, size = archive.getinfo(f"{root}data/{key}"), count * itemsize
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < size:
                raise pickle.UnpicklingError(f"storage {key}, which is not whole")
            return lambda: archive.read(entry)[:size]

        with archive.open(f"{root}data.pkl") as file:
            tree = _TorchUnpickler(file, storage).load()
        return {name: stored.array() for name, stored in arrays_of(tree)}


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file that torch before 1.6 wrote, by path in its tree.

    Raises:
        pickle.UnpicklingError: if the file is damaged, or names anything but tensors.
    """
    sizes, storages = {}, {}

    def storage(key, count, itemsize):
        sizes[key] = count, itemsize
        return lambda: storages[key]

    with open(path, "rb") as file:
        magic, _, system = (Unpickler(file).load() for _ in range(3))
        if magic != _MAGIC or not system["little_endian"]:
            raise pickle.UnpicklingError("numbers in big-endian order")
        tree = _TorchUnpickler(file, storage).load()
        # The storages follow; the number of values comes before each.
        for key in Unpickler(file).load():
            count, itemsize = sizes[key]
            if struct.unpack("<q", file.read(8)) != (count,):
                raise pickle.UnpicklingError(f"storage {key} of another size")
            storages[key] = file.read(count * itemsize)
    return {name: stored.array() for name, stored in arrays_of(tree)}


def numbers_of(data: bytes, code: str) -> np.ndarray:
    """Little-endian bytes as an array.

    Args:
        data: bytes.
        code: of a NumPy type, or "bfloat16", which is converted to float32 exactly.
    """
    if code != _BFLOAT16:
        return np.frombuffer(data, np.dtype(code).newbyteorder("<"))
    # A bfloat16 is the upper half of a float32.
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def _itemsize(code):
    return 2 if code == _BFLOAT16 else np.dtype(code).itemsize


def _is_pickle(name):
    return name.count("/") == 1 and name.endswith("/data.pkl")
