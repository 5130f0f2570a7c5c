"""Lock of a run folder: one process at a time."""

import fcntl
import logging
import os
import pathlib
import socket


class RunLock:
    """Context manager that keeps other processes out of a run folder.

    The lock is the kernel's (`flock`), which frees it when the process ends, even by a
    crash. The file holds process id and host name of the holder, for the message that
    another process gets.

    `flock` works across machines on NFS and on most cluster file systems. Where it does
    not, a warning names the machine whose process has not removed its name.

    Args:
        path: of the lock file, `RunFolder.lock`, in an existing folder.

    Raises:
        ValueError: on entering, if another process holds the lock.
        OSError: on entering, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def __enter__(self):
        self._file = self.path.open("a+")
        try:
            self._take(holder=self._read())
            self._write(f"pid {os.getpid()} on {socket.gethostname()}")
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_):
        self._write("")
        self._file.close()

    def _take(self, holder):
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "model_dir must not be in use by another process. Received: "
                f"{self.path.parent}, where {holder or 'another process'} is training"
            ) from None
        except OSError as error:
            _warn(
                "%s locks nothing on this file system (%s): start no second process in "
                "this folder",
                self.path,
                error.strerror,
            )
        if holder and not holder.endswith(f" on {socket.gethostname()}"):
            _warn(
                "%s names %s: the process has crashed, or locks do not reach that "
                "machine; make sure that it does not train in this folder",
                self.path,
                holder,
            )

    def _read(self):
        self._file.seek(0)
        return self._file.read().strip()

    def _write(self, text):
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()


def _warn(message, *arguments):
    logging.getLogger("byol_keras").warning(message, *arguments)
