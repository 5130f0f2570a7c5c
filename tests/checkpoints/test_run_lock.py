import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from byol_keras.checkpoints import run_lock
from byol_keras.checkpoints.run_lock import RunLock

# Without TensorFlow, which the package itself imports.
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


def test_lock_names_this_process_and_machine_while_it_is_held(tmp_path):
    assert locked(tmp_path) == f"pid {os.getpid()} on {socket.gethostname()}"
    assert (tmp_path / "run.lock").read_text() == ""
    assert locked(tmp_path)


def test_second_process_is_refused_with_the_name_of_the_first(tmp_path, holder):
    with pytest.raises(ValueError, match=r"^model_dir must not be in use") as error:
        locked(tmp_path)
    expected = f"pid {holder.pid} on {socket.gethostname()}"
    assert f"{tmp_path}, where {expected} is training" in str(error.value)


def test_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path, holder, capsys):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert "pid" in (tmp_path / "run.lock").read_text()
    assert locked(tmp_path)
    assert "waiting" not in capsys.readouterr().err


@pytest.fixture
def quick(monkeypatch):
    """Signs of life every 0.1 s; the ones waited for come within 0.3 s."""
    monkeypatch.setattr(run_lock, "SIGN_OF_LIFE_SECONDS", 0.1)


def elsewhere(folder):
    path = folder / "run.lock"
    path.write_text("pid 7 on another-machine")
    os.utime(path, (0, 0))
    return path


def test_lock_of_another_machine_without_a_sign_of_life_is_taken(
    tmp_path, quick, capsys
):
    elsewhere(tmp_path)
    assert locked(tmp_path)
    assert "names pid 7 on another-machine: waiting" in capsys.readouterr().err


def test_lock_of_another_machine_with_signs_of_life_is_refused(
    tmp_path, quick, monkeypatch
):
    path = elsewhere(tmp_path)
    # The other machine touches the file while this one waits.
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: os.utime(path))
    with pytest.raises(ValueError, match="pid 7 on another-machine is training"):
        locked(tmp_path)
    assert path.read_text() == "pid 7 on another-machine"


@pytest.mark.parametrize("alive", [True, False])
def test_signs_of_life_decide_where_a_file_system_has_no_locks(
    tmp_path, quick, monkeypatch, alive
):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    path = tmp_path / "run.lock"
    path.write_text(f"pid 7 on {socket.gethostname()}")
    os.utime(path, (0, 0))
    if alive:
        monkeypatch.setattr(run_lock.time, "sleep", lambda _: os.utime(path))
        with pytest.raises(ValueError, match="pid 7 on"):
            locked(tmp_path)
    else:
        assert locked(tmp_path)


def test_holder_shows_signs_of_life(tmp_path, quick):
    with RunLock(tmp_path / "run.lock"):
        path = tmp_path / "run.lock"
        os.utime(path, (0, 0))
        for _ in range(100):
            run_lock.time.sleep(0.05)
            if path.stat().st_mtime:
                break
        assert path.stat().st_mtime > 0
