"""The values that gin has used, and the bindings that nothing has used."""

import os

import gin

from byol_keras.config import bindings, graph
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder


def unused_bindings(with_included: bool = False) -> list[str]:
    """Bindings that nothing has used so far, as `scope/name.parameter`, sorted.

    Call it when everything that the configuration names has been built. The bindings of
    a function that is passed on and called later, as `[@knn]` to a callback, count as
    used. Macros are not listed: those that nothing refers to are mistakes before.

    Args:
        with_included: bool. List unused bindings of included files, too.
    """
    names = bindings.unused(graph.used_so_far(), with_included=with_included)
    return sorted(name for name in names if "." in name)


def write_config(folder: str | os.PathLike) -> None:
    """Writes the configuration as parsed, and every value that was used."""
    run = RunFolder(folder)
    write_text(run.config, gin.config_str())
    write_text(run.operative_config, gin.operative_config_str())
