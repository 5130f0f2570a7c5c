"""Parses gin files and bindings into one configuration."""

import pathlib
from collections.abc import Sequence

import gin

from byol_keras.config import bindings
from byol_keras.config.syntax import Origin, Reader, trees_above
from byol_keras.runtime.errors import Mistakes


def parse_gin(
    gin_files: Sequence[str],
    gin_params: Sequence[str],
    recipes: str | None = None,
    installed: pathlib.Path | None = None,
) -> Origin:
    """Parses gin files and bindings.

    Includes are searched in the working directory, in the folders above the including
    file and above `gin_files` that hold a folder `gin`, and in `installed`.

    Args:
        gin_files: paths, absolute, or relative to the working directory or, where it
            does not have the file, to `installed`.
        gin_params: bindings in gin syntax; they replace those of the files.
        recipes: name of the folder of recipes; see `Reader`.
        installed: folder with files that come with a package.

    Returns:
        The recipe among the files, and what differs from it.

    Raises:
        Mistakes: with a message for each missing file, syntax error, unknown name and
            unknown parameter.
    """
    if not gin_files:
        raise ValueError("gin_files must name at least one gin file. Received: none")
    paths = [_located(name, installed) for name in gin_files]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        rule = "gin_files must exist. Received: "
        raise Mistakes([f"{rule}{path}" for path in absent])
    folders = [folder for path in paths for folder in trees_above(path)]
    reader = Reader([*folders, *([installed] if installed else [])], recipes)
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


def _located(name, installed):
    """The path of a file, absolute, whether it exists or not."""
    path = pathlib.Path(name).resolve()
    if installed and not path.is_file() and (installed / name).is_file():
        return (installed / name).absolute()
    return path
