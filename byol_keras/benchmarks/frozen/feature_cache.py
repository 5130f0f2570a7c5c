"""Frozen features on disk, under names made from all that determines them.

A name is a digest of the computation, of every weight in it and of the data: features
are found again only by who would compute the same, and never grow stale.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf


def computation_digest(function: Callable, *inputs: tf.TensorSpec) -> str:
    """Hex digest of what a function computes: its graph, constants and variables.

    Names of nodes do not count, so that a second process, or a second copy of a model,
    has the same digest.

    Args:
        function: takes tensors, returns tensors.
        inputs: shapes and dtypes to trace it with.
    """
    concrete = tf.function(function).get_concrete_function(*inputs)
    digest = hashlib.sha256(_graph_digest(concrete).encode())
    # In the order in which the graph takes them; `concrete.variables` has none.
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
        """With places instead of names, and digests of the functions called."""
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
                elif not name.startswith("_"):  # a remark, as of inferred shapes
                    value = value.SerializeToString(deterministic=True)
                    digest.update(name.encode() + value)
        digest.update(_inputs(outputs, places))
        return digest.hexdigest()

    return of_nodes(graph_def.node, (), [tensor.name for tensor in concrete.outputs])


def _inputs(tensors, places):
    split = [tensor.lstrip("^").split(":") for tensor in tensors]
    return repr([(places[node], *output) for node, *output in split]).encode()


class FeatureCache:
    """A folder of feature files, each complete or absent.

    Args:
        folder: path; made when the first file is written.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)

    def path(self, key: str) -> pathlib.Path:
        """Where the array of this key is, or would be."""
        return self.folder / f"{key}.npy"

    def read(self, key: str) -> np.ndarray | None:
        """The stored array, memory-mapped and read-only; None if it is not there."""
        if not self.path(key).is_file():
            return None
        return np.load(self.path(key), mmap_mode="r")

    @contextlib.contextmanager
    def write(self, key: str, shape: tuple[int, ...], dtype) -> Iterator[np.memmap]:
        """An array to fill; it gets its name only if all went well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{key}.{os.getpid()}.partial"
        try:
            array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
            yield array
            array.flush()
            os.replace(partial, self.path(key))
        finally:
            partial.unlink(missing_ok=True)
