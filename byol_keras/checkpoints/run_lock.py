"""One process at a time in a run folder."""

import contextlib
import fcntl
import os
import pathlib
import socket
import sys
import threading
import time

SIGN_OF_LIFE_SECONDS = 10.0


class RunLock:
    """Keeps other processes out of a run folder while it is entered.

    The kernel frees the lock when a process dies, however it does. Where the lock does
    not reach other machines, as on some network file systems, the holder's signs of
    life do: it touches the file every 10 seconds, and whoever finds the name of another
    machine in it waits 30 seconds for one.

    Args:
        path: of the lock file, `RunFolder.lock`, in an existing folder.

    Raises:
        ValueError: when it is entered, if another process is at work in the folder.
        OSError: likewise, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._left = threading.Event()

    def __enter__(self):
        self._file = self.path.open("a+")
        try:
            self._take()
        except BaseException:
            self._file.close()
            raise
        self._write(f"pid {os.getpid()} on {socket.gethostname()}")
        self._thread = threading.Thread(target=self._show_life, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join()
        self._write("")
        self._file.close()

    def _take(self):
        holder = self._read()
        known_to_kernel = holder.endswith(f" on {socket.gethostname()}")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(holder or "another process") from None
        except OSError:  # a file system without locks
            known_to_kernel = False
        if holder and not known_to_kernel and self._shows_life(holder):
            raise self._refusal(holder)

    def _refusal(self, holder):
        return ValueError(
            f"model_dir must not be in use by another process. Received: "
            f"{self.path.parent}, where {holder} is training"
        )

    def _shows_life(self, holder):
        """Whether the holder touches the file within three intervals."""
        seconds = 3 * SIGN_OF_LIFE_SECONDS
        print(
            f"{self.path} names {holder}: waiting {seconds:.0f} s for a sign of life",
            file=sys.stderr,
        )
        before, end = self._touched(), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(SIGN_OF_LIFE_SECONDS / 10)
            if self._touched() != before:
                return True
        return False

    def _touched(self):
        # Network file systems ask the server when a file is opened, not at every stat.
        with self.path.open() as file:
            return os.fstat(file.fileno()).st_mtime_ns

    def _show_life(self):
        while not self._left.wait(SIGN_OF_LIFE_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _read(self):
        self._file.seek(0)
        return self._file.read().strip()

    def _write(self, text):
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()
