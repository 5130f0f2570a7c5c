"""Runs `python -m byol_keras...` many times without importing TensorFlow each time.

As a program, it imports what all command lines import, and serves `_run`; see `forks`.
"""

import atexit
import functools
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

from forks import ROOT, Forks, end_by, redirect, serve


@functools.cache
def _server():
    """The program of this process, until it ends."""
    server = Forks(__file__, PYTHONPATH=str(ROOT), COLUMNS="400")
    atexit.register(server.__exit__)
    return server.__enter__()


def command_line(module, *arguments, cwd=ROOT) -> subprocess.CompletedProcess:
    """Runs `python -m byol_keras.module` in a folder, the repository's by default."""
    words = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        logs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        call = {"module": f"byol_keras.{module}", "arguments": words}
        _server().send(**call, cwd=str(cwd), logs=logs)
        code = _server().ended()
        texts = [pathlib.Path(log).read_text() for log in logs]
    return subprocess.CompletedProcess((module, *words), code, *texts)


def _serve():
    import byol_keras.benchmarks
    import byol_keras.report  # noqa: F401

    sys.path[0] = ""  # as `python -m` has it
    serve(_run)


def _run(module, arguments, cwd, logs):
    """What `python -m` does; never returns."""
    redirect(*logs)
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    end_by(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


if __name__ == "__main__":
    _serve()
