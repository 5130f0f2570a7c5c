"""Runs `python -m byol_keras...` many times without importing TensorFlow each time.

As a program, it imports what all command lines import, initialises nothing, and forks
a child per line of its standard input, a JSON dict of arguments of `_run`; it answers
with the status in which the child ended. `CommandLines` is its other end.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


class CommandLines:
    """Starts the program, and runs command lines in children of it.

    Args:
        folder: where the commands run.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"},
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, module, arguments) -> tuple[int, str]:
        """Exit code and output, standard error included."""
        log = self._folder / "output.log"
        call = {"module": module, "arguments": arguments, "log": str(log)}
        print(json.dumps(call), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return os.waitstatus_to_exitcode(status), log.read_text()


def _serve():
    import byol_keras.benchmarks
    import byol_keras.report  # noqa: F401

    sys.path[0] = ""  # as `python -m` has it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(**json.loads(line))
        print(os.waitpid(child, 0)[1], flush=True)


def _run(module, arguments, log):
    """What `python -m` does; never returns."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
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
