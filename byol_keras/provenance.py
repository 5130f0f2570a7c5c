"""What a run was started by and on: `environment.json` of the run folder."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
from collections.abc import Mapping, Sequence

import byol_keras
from byol_keras.benchmarks.results import machine
from byol_keras.whole_files import write_text

FILE = "environment.json"
PACKAGES = ("tensorflow", "keras", "keras-cv", "gin-config", "numpy", "numba")


def add_start(
    folder: pathlib.Path,
    argv: Sequence[str],
    plan: Mapping[str, str],
    origin: tuple | None,
    step: int,
    total_steps: int,
) -> None:
    """Adds a start of the run, its first or one that resumes it, to its list.

    Args:
        folder: the run folder.
        argv: the interpreter and all its arguments.
        plan: what will run, in words; see `plan.rows`.
        origin: `gin_syntax.Origin`, where a gin file was read.
        step, total_steps: int. Where the run goes on, and where it will end.
    """
    path = folder / FILE
    start = {
        "command": command_line(argv, pathlib.Path.cwd(), pathlib.Path.home()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "total_steps": total_steps,
        "plan": {name: _unnamed(value) for name, value in plan.items()},
        "recipe": origin and origin.recipe,
        "differences": origin and origin.differences,
        "versions": versions(),
        "machine": machine(),
    }
    write_text(path, json.dumps([*starts(folder), start], indent=1) + "\n")


def starts(folder: pathlib.Path) -> list[dict]:
    """All starts of a run, the first one first; empty where none is written."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return []
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []


def command_line(
    argv: Sequence[str], here: pathlib.Path, home: pathlib.Path | None = None
) -> str:
    """The command as a shell takes it, with paths that other machines may share.

    Args:
        argv: the interpreter and all its arguments.
        here: the working directory, below which paths become relative.
        home: the home folder, which becomes `~`.
    """
    words = []
    for word in ["python", *argv[1:]]:
        for folder, short in ((f"{here}{os.sep}", ""), (str(home), "~")):
            word = word.replace(folder, short)
        words.append(word)
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that it rests on."""
    found = {"python": platform.python_version(), "byol_keras": byol_keras.__version__}
    for name in PACKAGES:
        # TensorFlow has other names too, as tensorflow-cpu.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _unnamed(text):
    """A text without the name of the user whose home folder it speaks of."""
    return text.replace(str(pathlib.Path.home()), "~")
