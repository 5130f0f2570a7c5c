"""Runs command lines and trainings many times, importing TensorFlow only once.

As a program, this file imports TensorFlow without initializing it. For each line of
standard input, a JSON dict of arguments, it forks a child that runs them and prints the
child's exit status. A training can kill itself at a moment that a signal from outside
would not hit.
"""

import atexit
import functools
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import threading

from support import ROOT


class Forks:
    """The other end of this program.

    Args:
        served: "commands" or "training": what each child runs.
        **variables: of its environment.
    """

    def __init__(self, served, **variables):
        self._served = served
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._variables = {"PYTHONPATH": path, **variables}

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._served],
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


@functools.cache
def _server():
    """The program of this process, until it ends."""
    server = Forks("commands", COLUMNS="400")
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


def _serve_commands():
    import byol_keras.benchmarks
    import byol_keras.report  # noqa: F401

    sys.path[0] = ""  # as `python -m` has it
    serve(_run_command)


def _run_command(module, arguments, cwd, logs):
    """What `python -m` does; never returns."""
    redirect(*logs)
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    end_by(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


class ForkServer(Forks):
    """Starts the program, and runs the command line in children of it."""

    def __init__(self):
        super().__init__("training")

    def start(self, model_dir, *bindings, name="run", **options) -> None:
        """Starts a run; its output goes to a file beside the run folder.

        Options are the arguments of `_run_training`.
        """
        self._log = pathlib.Path(f"{model_dir}.{name}.log")
        options |= {"model_dir": str(model_dir), "bindings": bindings}
        options |= {"log": str(self._log)}
        self.send(**options)

    def wait(self) -> tuple[int, str]:
        """Exit code (minus the signal, if it was killed) and output of the run."""
        return self.ended(), self._log.read_text()

    def run(self, model_dir, *bindings, **options) -> tuple[int, str]:
        """Starts a run, and waits for it."""
        self.start(model_dir, *bindings, **options)
        return self.wait()


def _serve_training():
    from support import models, runs  # noqa: F401, imports and registers names

    serve(_run_training)


def _run_training(
    model_dir,
    log,
    bindings,
    devices=1,
    strategy="cpu",
    tf_config=None,
    call="run",
    kill=None,
):
    """What `python -m byol_keras.train` does, or another function; never returns."""
    redirect(log)
    if tf_config:
        os.environ["TF_CONFIG"] = json.dumps(tf_config)
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * devices,
    )
    if kill:
        _MOMENTS[kill.pop("moment")](model_dir=pathlib.Path(model_dir), **kill)
    function = getattr(sys.modules["support.runs"], call)
    end_by(lambda: function(model_dir, *bindings, strategy=strategy))


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _after_seconds(model_dir, seconds, number=signal.SIGKILL):
    """Kills the process `seconds` after its fork."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def _in_step(model_dir, step, seconds, number=signal.SIGKILL):
    """Kills the process `seconds` after its n-th step has begun."""
    import keras

    begin = keras.callbacks.CallbackList.on_train_batch_begin
    seen = []

    def counting(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == step:
            _after_seconds(model_dir, seconds, number)
        begin(self, batch, logs)

    keras.callbacks.CallbackList.on_train_batch_begin = counting


def _in_write(model_dir, checkpoint, share):
    """Kills the process when it has written a share of its n-th checkpoint."""
    import numpy as np

    write = np.savez
    seen = []

    def dying(file, **arrays):
        seen.append(file)
        if len(seen) == checkpoint:
            size = sum(array.nbytes for array in arrays.values())
            file = _Dying(file, int(share * size))
        write(file, **arrays)

    np.savez = dying


class _Dying:
    """A file that kills the process after `size` bytes."""

    def __init__(self, file, size):
        self._file, self._left = file, size

    def write(self, content):
        content = bytes(content)
        self._file.write(content[: self._left])
        self._left -= len(content)
        if self._left <= 0:
            self._file.flush()
            _die()
        return len(content)

    def __getattr__(self, name):
        return getattr(self._file, name)


def _around_rename(model_dir, checkpoint, before):
    """Just before or after the n-th checkpoint of this process gets its name."""
    rename = os.replace
    seen = []

    def dying(source, destination):
        is_checkpoint = str(destination).endswith(".npz")
        seen.extend([destination] * is_checkpoint)
        last = is_checkpoint and len(seen) == checkpoint
        if last and before:
            _die()
        rename(source, destination)
        if last:
            _die()

    os.replace = dying


def _in_metrics_line(model_dir, line, share):
    """In the middle of the n-th line that this process writes to `metrics.jsonl`."""
    from byol_keras.monitoring import logs

    seen = []

    class Json:
        JSONDecodeError = json.JSONDecodeError
        loads = staticmethod(json.loads)

        @staticmethod
        def dumps(content):
            text = json.dumps(content)
            seen.append(text)
            if len(seen) == line:
                with (model_dir / "metrics.jsonl").open("a") as file:
                    file.write(text[: int(share * len(text))])
                _die()
            return text

    logs.json = Json


_MOMENTS = {
    "after seconds": _after_seconds,
    "in step": _in_step,
    "in write": _in_write,
    "around rename": _around_rename,
    "in metrics line": _in_metrics_line,
}

if __name__ == "__main__":
    {"commands": _serve_commands, "training": _serve_training}[sys.argv[1]]()
