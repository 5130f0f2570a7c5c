"""Runs `python -m byol_keras...` many times without importing TensorFlow each time.

As a program, it imports what all command lines import, initialises nothing, and forks
a child per line of its standard input, a JSON dict of arguments of `_run`; it answers
with the status in which the child ended. `CommandLines` is its other end.
"""

import atexit
import functools
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]


class CommandLines:
    """Starts the program, and runs command lines in children of it."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"},
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, module, arguments, cwd=ROOT) -> subprocess.CompletedProcess:
        """Runs `python -m module` in a folder, and waits for it."""
        with tempfile.TemporaryDirectory() as folder:
            logs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
            call = {"module": module, "arguments": [*map(str, arguments)]}
            call |= {"cwd": str(cwd), "logs": logs}
            print(json.dumps(call), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            texts = [pathlib.Path(log).read_text() for log in logs]
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess((module, *arguments), code, *texts)


@functools.cache
def _server():
    """The program of this process, until it ends."""
    server = CommandLines()
    atexit.register(server.__exit__)
    return server.__enter__()


def command_line(module, *arguments, cwd=ROOT) -> subprocess.CompletedProcess:
    """Runs `python -m byol_keras.module` in a folder, the repository's by default."""
    return _server().run(f"byol_keras.{module}", arguments, cwd)


def _serve():
    import byol_keras.benchmarks
    import byol_keras.report  # noqa: F401

    sys.path[0] = ""  # as `python -m` has it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(**json.loads(line))
        print(os.waitpid(child, 0)[1], flush=True)


def _run(module, arguments, cwd, logs):
    """What `python -m` does; never returns."""
    for number, log in enumerate(logs, start=1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
