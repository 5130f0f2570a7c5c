"""Parses gin files and bindings into one configuration."""

import contextlib
import logging as standard_logging
import pathlib

import gin

from byol_keras.config import bindings, syntax
from byol_keras.runtime.errors import Mistakes


def parse_gin(gin_files: list[str], gin_params: list[str]) -> syntax.Origin:
    """Parses gin files and bindings; includes are found from the files' own tree.

    Args:
        gin_files: paths, absolute or relative to the working directory.
        gin_params: bindings in gin syntax; they win over the files.

    Returns:
        The recipe among the files, and what differs from it.

    Raises:
        Mistakes: for missing files, syntax errors, unknown names and parameters, all
            that there are.
    """
    if not gin_files:
        raise ValueError("--gin_file must name at least one gin file. Received: none")
    paths = [pathlib.Path(name).resolve() for name in gin_files]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        rule = "--gin_file must be an existing file. Received: "
        raise Mistakes([f"{rule}{path}" for path in absent])
    folders = [f for path in paths for f in path.parents if (f / "gin").is_dir()]
    reading = syntax.read(paths, gin_params, folders)
    if reading.mistakes:
        raise Mistakes(reading.mistakes)
    bindings.set_defaults(reading.defaults, reading.replaced)
    for folder in folders:
        gin.add_config_file_search_path(str(folder))
    try:
        with _without_notes_of_gin():
            gin.parse_config_files_and_bindings([str(p) for p in paths], gin_params)
    except (SyntaxError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise ValueError(f"gin configuration cannot be read: {error}") from error
    return reading.origin


@contextlib.contextmanager
def _without_notes_of_gin():
    """Gin logs an error for every place that it does not find an included file in."""

    def is_wanted(record):
        return not str(record.msg).startswith("Path not found")

    root = standard_logging.getLogger()
    root.addFilter(is_wanted)
    try:
        yield
    finally:
        root.removeFilter(is_wanted)
