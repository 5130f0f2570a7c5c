"""The lock of a run folder, held by this process or by another one."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from byol_keras.checkpoints import run_lock
from byol_keras.checkpoints.run_lock import RunLock

# Loads the file alone: importing the package would import TensorFlow.
HOLDER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("run_lock", sys.argv[1])
run_lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_lock)
with run_lock.RunLock(sys.argv[2]):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    program = textwrap.dedent(HOLDER)
    process = subprocess.Popen(
        [sys.executable, "-c", program, run_lock.__file__, tmp_path / "run.lock"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def locked(folder):
    with RunLock(folder / "run.lock"):
        return (folder / "run.lock").read_text()


def test_lock_file_names_process_and_machine_while_the_lock_is_held(tmp_path):
    assert locked(tmp_path) == f"pid {os.getpid()} on {socket.gethostname()}"
    assert (tmp_path / "run.lock").read_text() == ""
    assert locked(tmp_path)


def test_second_process_is_refused_and_the_message_names_the_first(tmp_path, holder):
    with pytest.raises(ValueError, match=r"^model_dir must not be in use") as error:
        locked(tmp_path)
    expected = f"pid {holder.pid} on {socket.gethostname()}"
    assert f"{tmp_path}, where {expected} is training" in str(error.value)


def test_lock_of_a_killed_process_is_free_at_once(tmp_path, holder, caplog):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert "pid" in (tmp_path / "run.lock").read_text()
    assert locked(tmp_path)
    assert not caplog.text


def test_name_of_another_machine_is_a_warning(tmp_path, caplog):
    (tmp_path / "run.lock").write_text("pid 7 on another-machine")
    assert locked(tmp_path) == f"pid {os.getpid()} on {socket.gethostname()}"
    assert "names pid 7 on another-machine" in caplog.text
    locked(tmp_path)
    assert caplog.text.count("another-machine") == 1


def test_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    assert locked(tmp_path) == f"pid {os.getpid()} on {socket.gethostname()}"
    assert "locks nothing on this file system (Function not impl" in caplog.text


def test_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        locked(tmp_path / "missing")
