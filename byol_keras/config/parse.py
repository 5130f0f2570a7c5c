"""Parses gin files and bindings into one configuration."""

import pathlib
from collections.abc import Sequence

import gin

from byol_keras.config import bindings
from byol_keras.config.syntax import Origin, Reader
from byol_keras.runtime.errors import Mistakes


def parse_gin(
    gin_files: Sequence[str], gin_params: Sequence[str], recipes: str | None = None
) -> Origin:
    """Parses gin files and bindings.

    Includes are searched in the working directory, and in the folders above the files
    that hold a folder `gin`.

    Args:
        gin_files: paths, absolute or relative to the working directory.
        gin_params: bindings in gin syntax; they replace those of the files.
        recipes: name of the folder of recipes; see `Reader`.

    Returns:
        The recipe among the files, and what differs from it.

    Raises:
        Mistakes: with a message for each missing file, syntax error, unknown name and
            unknown parameter.
    """
    if not gin_files:
        raise ValueError("gin_files must name at least one gin file. Received: none")
    paths = [pathlib.Path(name).resolve() for name in gin_files]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        rule = "gin_files must exist. Received: "
        raise Mistakes([f"{rule}{path}" for path in absent])
    folders = [f for path in paths for f in path.parents if (f / "gin").is_dir()]
    reader = Reader(folders, recipes)
    for path in paths:
        reader.read_file(path)
    for text in gin_params:
        reader.read(text)
    reader.check_macros()
    reader.found.raise_all()
    try:
        gin.parse_config(reader.lines)
        gin.finalize()
    except (SyntaxError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise ValueError(f"gin configuration cannot be read: {error}") from error
    bindings.forgive(reader.included)
    return reader.origin()
