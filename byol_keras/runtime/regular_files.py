"""Only regular files are read: reading a pipe or a device may never end."""

import errno
import os
import stat


def check_regular(path: str | os.PathLike) -> None:
    """Raises an `OSError` unless a path, or what it links to, is a regular file."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
