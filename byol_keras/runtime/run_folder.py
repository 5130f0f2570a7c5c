"""The run folder: what a run leaves, and under which names."""

import pathlib


def check_model_dir(model_dir: str | None) -> None:
    """Raises a `ValueError` if no run folder is named, or the name is a file's."""
    if not model_dir:
        raise ValueError("--model_dir must name the run folder. Received: none")
    path = pathlib.Path(model_dir)
    files = [p for p in (path, *path.parents) if p.exists() and not p.is_dir()]
    if files:
        raise ValueError(f"--model_dir must be a folder. Received: {files[0]}, a file")


def make_run_folder(model_dir: str) -> pathlib.Path:
    """Creates the run folder.

    Raises:
        ValueError: if no folder is named, or it cannot be written.
    """
    check_model_dir(model_dir)
    folder = pathlib.Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--model_dir must be a folder that can be written. Received: {folder} "
            f"({error.strerror})"
        ) from error
    return folder
