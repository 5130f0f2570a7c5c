"""Runs the training command line many times without importing TensorFlow each time.

As a program, it imports everything, and serves `_run`; see `forks`. `ForkServer` is its
other end. A child can be told to kill itself at a moment that no signal from outside
would hit.
"""

import json
import os
import pathlib
import signal
import sys
import threading

from forks import ROOT, Forks, end_by, redirect, serve


class ForkServer(Forks):
    """Starts the program, and runs the command line in children of it."""

    def __init__(self):
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        super().__init__(__file__, PYTHONPATH=path)

    def start(self, model_dir, *bindings, name="run", **options) -> None:
        """Starts a run; its output goes to a file beside the run folder.

        Options are the arguments of `_run`.
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


def _serve():
    # They import and register all that a run needs.
    import test_exact_resume  # noqa: F401
    import test_train  # noqa: F401
    import test_workers  # noqa: F401

    serve(_run)


def _run(
    model_dir,
    log,
    bindings,
    devices=1,
    strategy="cpu",
    tf_config=None,
    call="test_train.run",
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
    module, _, name = call.partition(".")
    function = getattr(sys.modules[module], name)
    end_by(lambda: function(model_dir, *bindings, strategy=strategy))


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _after_seconds(model_dir, seconds, number=signal.SIGKILL):
    """So many seconds after the process has been forked."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def _in_step(model_dir, step, seconds, number=signal.SIGKILL):
    """So many seconds after the beginning of the n-th step of this process."""
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
    """When a share of the n-th checkpoint of this process has been written."""
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
    """A file that kills the process after so many bytes."""

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
    from byol_keras import run_log

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

    run_log.json = Json


_MOMENTS = {
    "after seconds": _after_seconds,
    "in step": _in_step,
    "in write": _in_write,
    "around rename": _around_rename,
    "in metrics line": _in_metrics_line,
}

if __name__ == "__main__":
    _serve()
