"""Cache of frozen features on disk, keyed by everything that determines them.

A key is a digest of the computation, of every weight in it and of the data. Features
are reused only where the same computation would be repeated, so they are never stale.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from byol_keras.runtime.run_folder import check_local


def computation_digest(function: Callable, *inputs: tf.TensorSpec) -> str:
    """Hex digest of what a function computes: its graph, constants and variables.

    Node names are ignored, so that another process or another copy of a model has the
    same digest.

    Args:
        function: takes tensors, returns tensors.
        *inputs: shapes and dtypes for tracing.
    """
    concrete = tf.function(function).get_concrete_function(*inputs)
    digest = hashlib.sha256(_graph_digest(concrete).encode())
    # In the order of the graph's inputs; the order of `concrete.variables` varies.
    variables = {id(variable.handle): variable for variable in concrete.variables}
    for captured in concrete.captured_inputs:
        value = variables.get(id(captured), captured)
        value = np.ascontiguousarray(value.numpy())
        digest.update(repr((value.shape, str(value.dtype))).encode())
        digest.update(hashlib.sha256(value).digest())
    return digest.hexdigest()


def _graph_digest(concrete):
    graph_def = concrete.graph.as_graph_def()
    functions = {f.signature.name: f for f in graph_def.library.function}

    @functools.cache
    def of_function(name):
        function = functions[name]
        arguments = [argument.name for argument in function.signature.input_arg]
        results = [function.ret[x.name] for x in function.signature.output_arg]
        return of_nodes(function.node_def, arguments, results)

    def of_nodes(nodes, arguments, outputs):
        """Digest of nodes: positions stand for names, digests for called functions."""
        names = [*arguments, *(node.name for node in nodes)]
        places = {name: place for place, name in enumerate(names)}
        digest = hashlib.sha256()
        for node in nodes:
            op = of_function(node.op) if node.op in functions else node.op
            digest.update(op.encode())
            digest.update(_inputs(node.input, places))
            for name, value in sorted(node.attr.items()):
                called = value.func.name
                if called in functions:
                    digest.update(f"{name} {of_function(called)}".encode())
                elif not name.startswith("_"):  # private ones note inferred shapes
                    value = value.SerializeToString(deterministic=True)
                    digest.update(name.encode() + value)
        digest.update(_inputs(outputs, places))
        return digest.hexdigest()

    return of_nodes(graph_def.node, (), [tensor.name for tensor in concrete.outputs])


def _inputs(tensors, places):
    split = [tensor.lstrip("^").split(":") for tensor in tensors]
    return repr([(places[node], *output) for node, *output in split]).encode()


def _reserve(path):
    """Reserves the space of a sparse file: on a full disk, filling it would crash."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


class FeatureCache:
    """A folder of feature files, each of them complete.

    Args:
        folder: path. It is created when the first file is written.
    """

    def __init__(self, folder: str | os.PathLike):
        check_local("cache_dir", folder)
        self.folder = pathlib.Path(folder)

    def path(self, key: str) -> pathlib.Path:
        """Path of the array of a key, which need not exist."""
        return self.folder / f"{key}.npy"

    def read(self, key: str) -> np.ndarray | None:
        """The stored array, memory-mapped and read-only; None if there is none."""
        if not self.path(key).is_file():
            return None
        return np.load(self.path(key), mmap_mode="r")

    @contextlib.contextmanager
    def write(
        self, key: str, shape: tuple[int, ...], dtype, rows: Callable[[], int]
    ) -> Iterator[np.memmap]:
        """An array to fill, which is stored when the context ends without an error.

        Args:
            key: of the array.
            shape, dtype: of the array to fill.
            rows: () -> number of filled rows, which are stored.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{key}.{os.getpid()}.partial"
        try:
            array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
            _reserve(partial)
            yield array
            array.flush()
            if rows() < len(array):
                shorter = partial.with_suffix(".shorter")
                with shorter.open("wb") as stream:
                    np.save(stream, array[: rows()])
                os.replace(shorter, partial)
            os.replace(partial, self.path(key))
        finally:
            partial.unlink(missing_ok=True)
