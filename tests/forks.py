"""A program that has imported TensorFlow once, and forks a child for each call.

The program initialises nothing of it: it reads a JSON dict of arguments per line of its
standard input, and answers with the status in which the child has ended.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


class Forks:
    """The other end of such a program.

    Args:
        program: path of a script that calls `serve`.
        **variables: of its environment.
    """

    def __init__(self, program, **variables):
        self._program = program
        self._variables = variables

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self._variables},
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def send(self, **arguments) -> None:
        """Starts a child."""
        print(json.dumps(arguments), file=self._process.stdin, flush=True)

    def ended(self) -> int:
        """Waits for the child; its exit code, minus the signal if it was killed."""
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))


def serve(run) -> None:
    """Calls `run` in a child for every line of arguments."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(**json.loads(line))
        print(os.waitpid(child, 0)[1], flush=True)


def redirect(stdout, stderr=None) -> None:
    """Sends what this process prints to files, both to one if only one is given."""
    for number, path in ((1, stdout), (2, stderr)):
        if path is not None:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
    if stderr is None:
        os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def end_by(call) -> None:
    """Calls something, and ends the process as Python would; never returns."""
    code = 0
    try:
        call()
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
