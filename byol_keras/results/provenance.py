"""What a result comes from: command, source, versions, machine, seconds.

`environment.json` of the run folder has them of every start of a run.
"""

import contextlib
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence

import tensorflow as tf

import byol_keras
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder

# Results that have been written anew do not change what others come from.
RESULTS = "experiments/*.json"
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
    path = RunFolder(folder).environment
    start = {
        "command": command_line(argv, pathlib.Path.cwd(), pathlib.Path.home()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "total_steps": total_steps,
        "plan": {name: _unnamed(value) for name, value in plan.items()},
        "recipe": origin and origin.recipe,
        "differences": origin and origin.differences,
        **made_by(),
    }
    write_text(path, json.dumps([*starts(folder), start], indent=1) + "\n")


def add_seconds(folder: pathlib.Path, seconds: float) -> None:
    """Adds to the newest start how long it has trained, if it came to its end."""
    *earlier, last = starts(folder)
    last["seconds"] = round(seconds, 1)
    path = RunFolder(folder).environment
    write_text(path, json.dumps([*earlier, last], indent=1) + "\n")


def starts(folder: pathlib.Path) -> list[dict]:
    """All starts of a run, the first one first; empty where none is written."""
    try:
        found = json.loads(RunFolder(folder).environment.read_text())
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


def made_by() -> dict:
    """What a result is made by: `commit`, `versions` and `machine`, for JSON."""
    return {"commit": commit(), "versions": versions(), "machine": machine()}


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that it rests on."""
    found = {"python": platform.python_version(), "byol_keras": byol_keras.__version__}
    for name in PACKAGES:
        # TensorFlow has other names too, as tensorflow-cpu.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def commit() -> str | None:
    """The commit of this package's source, with a "+" if files differ from it.

    Untracked ones do not count, and neither do the results of experiments.
    None for an installed package, and where there is no git.
    """
    root = pathlib.Path(byol_keras.__file__).parents[1]
    # An installed one may lie in a repository of somebody else's.
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        files = (".", f":!{RESULTS}")
        changed = _git(root, "diff", "--name-only", "HEAD", "--", *files)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head


def _git(root, *arguments):
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> dict:
    """The kind of this machine: system, CPUs, accelerators. It has no name."""
    devices = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        devices.append(details.get("device_name", device.device_type))
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "devices": devices,
    }


def _unnamed(text):
    """A text without the name of the user whose home folder it speaks of."""
    return text.replace(str(pathlib.Path.home()), "~")
