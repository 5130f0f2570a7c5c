"""A file of embeddings, `.npz` or `.parquet`: written and read block by block."""

import importlib.util
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from byol_keras.runtime.atomic_files import write_whole

SUFFIXES = (".npz", ".parquet")
# Rows that are read at once.
_ROWS = 4096


class Block(NamedTuple):
    """Embeddings that follow one another.

    Args:
        paths: of the images, relative to their folder, with "/".
        features: float32 `[n, D]`.
    """

    paths: Sequence[str]
    features: np.ndarray


def check_path(path: str | os.PathLike) -> pathlib.Path:
    """The path of a file to be written or read.

    Raises:
        ValueError: for another ending, and for Parquet without pyarrow.
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--out must end in {' or '.join(SUFFIXES)}. Received: {path}")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise ValueError(
            'a .parquet file needs pyarrow: pip install "byol_keras[embed]". '
            f"Received: {path}"
        )
    return path


def write(
    path: pathlib.Path,
    blocks: Callable[[], Iterable[Block]],
    count: int,
    dimensions: int,
    about: dict[str, Any],
) -> None:
    """Writes embeddings, whole or not at all; memory holds one block.

    `.npz` has the arrays `features`, float32 `[N, D]`, `paths` and `about`; `.parquet`
    the columns `path` and `features`, and `about` among the metadata of its schema.

    Args:
        path: of the file.
        blocks: makes an iterator of all of them, in order; called more than once.
        count: int. Embeddings in all blocks.
        dimensions: int. Numbers of each, `D`.
        about: what they are, in terms of JSON.
    """
    text = json.dumps(about)
    if path.suffix == ".npz":
        shape = (count, dimensions)
        write_whole(path, lambda partial: _write_npz(partial, blocks, shape, text))
    else:
        write_whole(
            path, lambda partial: _write_parquet(partial, blocks, dimensions, text)
        )


def read_about(path: pathlib.Path) -> dict[str, Any]:
    """What the embeddings of a file are.

    Raises:
        ValueError: if the file is none of ours.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return json.loads(str(arrays["about"]))
        return json.loads(_parquet(path).schema_arrow.metadata[b"about"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--out must be a file of embeddings ({type(error).__name__}). "
            f"Received: {path}"
        ) from error


def read_blocks(path: pathlib.Path) -> Iterator[Block]:
    """The embeddings of a file, in order, some thousand at a time."""
    if path.suffix == ".npz":
        yield from _blocks_of_npz(path)
        return
    for batch in _parquet(path).iter_batches(_ROWS):
        features = batch.column("features")
        flat = features.flatten().to_numpy().reshape(len(features), -1)
        yield Block(batch.column("path").to_pylist(), flat)


def _write_npz(path, blocks, shape, about):
    paths = np.array([name for block in blocks() for name in block.paths], dtype=str)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        with file.open("features.npy", "w", force_zip64=True) as stream:
            kind = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, kind)
            for block in blocks():
                stream.write(np.ascontiguousarray(block.features, "<f4").tobytes())
        for name, array in (("paths", paths), ("about", np.array(about))):
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _blocks_of_npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        paths = arrays["paths"]
    with zipfile.ZipFile(path) as file, file.open("features.npy") as stream:
        np.lib.format.read_magic(stream)
        (count, dimensions), _, kind = np.lib.format.read_array_header_1_0(stream)
        for start in range(0, count, _ROWS):
            names = paths[start : start + _ROWS].tolist()
            data = stream.read(len(names) * dimensions * kind.itemsize)
            yield Block(names, np.frombuffer(data, kind).reshape(-1, dimensions))


def _write_parquet(path, blocks, dimensions, about):
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.float32(), dimensions)
    columns = [("path", pyarrow.string()), ("features", kind)]
    schema = pyarrow.schema(columns, metadata={"about": about})
    with parquet.ParquetWriter(path, schema) as writer:
        for block in blocks():
            flat = pyarrow.array(block.features.reshape(-1))
            features = pyarrow.FixedSizeListArray.from_arrays(flat, dimensions)
            writer.write_table(
                pyarrow.table([list(block.paths), features], schema=schema)
            )


def _parquet(path):
    from pyarrow import parquet

    return parquet.ParquetFile(path)
