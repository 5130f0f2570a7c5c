"""Reads files of weights of other systems as named NumPy arrays.

The format follows from the first bytes of a file, not from its name.
"""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byol_keras.interop import torch_files
from byol_keras.interop.pickles import ForbiddenName, Unpickler, arrays_of

# Types of safetensors -> codes of `torch_files.numbers_of`.
_TYPES = {
    "BF16": "bfloat16",
    "BOOL": "?",
    "F16": "f2",
    "F32": "f4",
    "F64": "f8",
    **{
        f"{kind}{8 * size}": f"{kind.lower()}{size}"
        for kind in "IU"
        for size in (1, 2, 4, 8)
    },
}
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class ForeignFile(NamedTuple):
    """The content of a file.

    Args:
        kind: "safetensors", "torch" or "pickle".
        arrays: by path in the file's tree, parts joined by "/".
        metadata: text by name; empty but for safetensors.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_file(path: str | os.PathLike) -> ForeignFile:
    """Reads all arrays of a file. No code that a pickle names is executed.

    Args:
        path: a safetensors file, a file of `torch.save` (either format), or a pickle of
            NumPy arrays.

    Raises:
        ValueError: if the file has another format, is damaged, or names anything but
            arrays and containers of arrays; and if it needs safetensors, which is not
            installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path must be an existing file. Received: {path}")
    kind, read = _reader_of(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    try:
        return ForeignFile(kind, read(path), {})
    except ForbiddenName as error:
        raise ValueError(
            "path must be a file of arrays and containers of arrays only; no code from "
            f"it was executed. Received: {path}, which names {error}"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"path must be a complete file. Received: {path} ({reason})"
        ) from error


def _reader_of(path):
    """The kind of a file, and the function that reads it."""
    with open(path, "rb") as file:
        head = file.read(32)
    if zipfile.is_zipfile(path) and torch_files.is_torch_zip(path):
        return "torch", torch_files.read_zip
    if head.startswith(torch_files.MAGIC_BYTES):
        return "torch", torch_files.read_legacy
    if head.startswith(_PICKLES):
        return "pickle", _read_pickle
    if head[8:9] == b"{":
        return "safetensors", _read_safetensors
    raise ValueError(
        "path must be a safetensors file, a file of torch.save or a pickle of "
        f"arrays. Received: {path}"
    )


def _read_pickle(path):
    with open(path, "rb") as file:
        tree = Unpickler(file).load()
    return {name: stored.array() for name, stored in arrays_of(tree)}


def _read_safetensors(path):
    safetensors = import_safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"path must be a complete file. Received: {path} ({error})"
        ) from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in _TYPES:
            raise ValueError(
                f"path must be a file of {', '.join(_TYPES)}. Received: {path}, "
                f"with {name} of {entry['dtype']}"
            )
        values = torch_files.numbers_of(entry["data"], _TYPES[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return ForeignFile("safetensors", arrays, metadata)


def import_safetensors():
    """The package safetensors.

    Raises:
        ValueError: if it is not installed; the message has the pip command.
    """
    try:
        import safetensors.numpy  # registers the functions that write
    except ImportError as error:
        raise ValueError(
            'safetensors files need safetensors: pip install "byol_keras[interop]". '
            f"Received: {error}"
        ) from error
    return safetensors
