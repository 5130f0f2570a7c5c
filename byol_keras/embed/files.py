"""Files of embeddings, `.npz` or `.parquet`, written and read block by block."""

import importlib.util
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from byol_keras.runtime.atomic_files import write_whole
from byol_keras.runtime.run_folder import check_local

SUFFIXES = (".npz", ".parquet")
# Rows per block when reading.
_ROWS = 4096


class Block(NamedTuple):
    """Some consecutive embeddings of a file.

    Args:
        paths: of the images, relative to their folder, with "/" as separator.
        features: float32 `[n, D]`.
    """

    paths: Sequence[str]
    features: np.ndarray


def check_out(out: str | os.PathLike) -> pathlib.Path:
    """The path of a file of embeddings, to write or to read.

    Raises:
        ValueError: for a URL, an unknown ending, and for Parquet without pyarrow.
    """
    check_local("out", out)
    path = pathlib.Path(out)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"out must end in {' or '.join(SUFFIXES)}. Received: {path}")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise ValueError(
            'out needs pyarrow to end in .parquet: pip install "byol_keras[embed]". '
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
    """Writes embeddings atomically; memory holds one block.

    A `.npz` file has the arrays `features`, float32 `[N, D]`, `paths` and `about`. A
    `.parquet` file has the columns `path` and `features`, and `about` in the metadata
    of its schema.

    Args:
        path: of the file.
        blocks: returns an iterator over all blocks, in order; called more than once.
        count: int. Number of embeddings in all blocks, `N`.
        dimensions: int. Length of an embedding, `D`.
        about: what the embeddings depend on, for JSON.
    """
    text = json.dumps(about)
    if path.suffix == ".npz":
        shape = (count, dimensions)
        write_whole(path, lambda partial: _write_npz(partial, blocks, shape, text))
    else:
        write_whole(
            path, lambda partial: _write_parquet(partial, blocks, dimensions, text)
        )


def read_about(out: pathlib.Path) -> dict[str, Any]:
    """What the embeddings of a file depend on, as given to `write`.

    Raises:
        ValueError: if the file is not a file of embeddings.
    """
    try:
        if out.suffix == ".npz":
            with np.load(out, allow_pickle=False) as arrays:
                return json.loads(str(arrays["about"]))
        return json.loads(_parquet(out).schema_arrow.metadata[b"about"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"out must be a file of embeddings ({type(error).__name__}). "
            f"Received: {out}"
        ) from error


def read_blocks(path: pathlib.Path) -> Iterator[Block]:
    """The embeddings of a file, in order, in blocks of some thousand rows."""
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
