"""Provenance of results: command, commit, versions, machine and duration.

The run folder has a list of every start of a run, in `RunFolder.environment`.
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

from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.version import __version__

# Changed files of these do not count as changes of the source.
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
    """Adds a start of the run, the first one or a resumed one, to the list.

    Args:
        folder: the run folder.
        argv: the interpreter and all its arguments.
        plan: the plan of the run, as text by name; see `training.plan`.
        origin: `config.syntax.Origin` of the gin files, or None without any.
        step, total_steps: ints. First and last step of this start.
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
    """Adds the duration of training to the newest start, at the end of a run."""
    *earlier, last = starts(folder)
    last["seconds"] = round(seconds, 1)
    path = RunFolder(folder).environment
    write_text(path, json.dumps([*earlier, last], indent=1) + "\n")


def starts(folder: pathlib.Path) -> list[dict]:
    """All starts of a run in order; empty if the folder has none."""
    try:
        found = json.loads(RunFolder(folder).environment.read_text())
    except (OSError, ValueError):
        return []
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []


def is_underway(starts: Sequence[Mapping]) -> bool:
    """Whether training has begun and not ended since: it runs, or was interrupted.

    The export of such a run is of an earlier step, if there is one.

    Args:
        starts: of the run, from `starts`.
    """
    last = starts[-1] if starts else {}
    is_over = last.get("seconds") is not None
    return not is_over and last.get("step", 0) < last.get("total_steps", 0)


def command_line(argv: Sequence[str], here: pathlib.Path, home: pathlib.Path) -> str:
    """The command for a shell, without paths of this machine.

    Args:
        argv: the interpreter and all its arguments.
        here: the working directory. Paths below it are shown as relative.
        home: the home folder, shown as `~`.
    """
    words = []
    for word in ["python", *argv[1:]]:
        for folder, short in ((f"{here}{os.sep}", ""), (str(home), "~")):
            word = word.replace(folder, short)
        words.append(word)
    return shlex.join(words)


def made_by() -> dict:
    """The `commit`, `versions` and `machine` behind a result, for JSON."""
    return {"commit": commit(), "versions": versions(), "machine": machine()}


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of its main requirements."""
    found = {"python": platform.python_version(), "byol_keras": __version__}
    for name in PACKAGES:
        # TensorFlow may be installed under another name, such as tensorflow-cpu.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def commit() -> str | None:
    """The commit of this package's source, with a "+" if files differ from it.

    Untracked files and results of experiments are ignored. None for an installed
    package, and without git.
    """
    root = pathlib.Path(__file__).parents[2]
    # An installed package may be inside of another repository.
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        files = (".", f":!{RESULTS}")
        changed = _git(root, "diff", "-U0", "HEAD", "--", *files)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head


def _git(root, *arguments):
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> dict:
    """System, CPUs and accelerators of this machine, without its host name."""
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
    """The text with "~" in place of the home folder, which has the user's name."""
    return text.replace(str(pathlib.Path.home()), "~")
