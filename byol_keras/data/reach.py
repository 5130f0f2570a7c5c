"""Images that are out of reach for a while, as on a network mount that goes away.

An image that cannot be opened is unreadable if others can be opened. If none of several
others can, all of them are out of reach: nothing is known of any, and reading waits.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence

from byol_keras.data.spread import spread
from byol_keras.runtime.errors import OutsideFailure
from byol_keras.runtime.host_calls import pause
from byol_keras.runtime.printable import printable
from byol_keras.runtime.regular_files import check_regular

# Seconds that reading waits. Most mounts that come back by themselves do so in less.
LONGEST_WAIT = 60.0
_BETWEEN = 0.5
# Other images that are tried.
_OTHERS = 8
_log = logging.getLogger("byol_keras")


class OutOfReach(OutsideFailure):
    """No image can be opened, for longer than reading waits."""


class Reach:
    """Whether the images of a source are within reach.

    Args:
        paths: of the files.
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        self._paths = paths
        self._lock = threading.Lock()
        self._since = None  # when no image could be opened for the first time

    def wait(self, path: str | os.PathLike) -> None:
        """Waits while neither this file nor others can be opened.

        Threads that wait for the same outage give up together.

        Raises:
            OutOfReach: after `LONGEST_WAIT` seconds.
        """
        while self._is_out(path):
            pause(_BETWEEN)

    def _is_out(self, path):
        # One thread at a time: what another has seen before the end of an outage would
        # start a new one.
        with self._lock:
            error = self._outage(path)
            if error is not None:
                self._note(path, error)
                return True
            if self._since is not None:
                _log.warning("images are within reach again")
            self._since = None
            return False

    def _outage(self, path):
        """Why no image can be opened; None if one can."""
        error = _error_of(path)
        others = spread(self._paths, _OTHERS)
        if error is None or any(_error_of(other) is None for other in others):
            return None
        return error

    def _note(self, path, error):
        if self._since is None:
            self._since = time.monotonic()
            _log.warning(
                "images are out of reach, such as %s (%s); waiting for up to %.0f "
                "seconds",
                printable(path),
                error.strerror,
                LONGEST_WAIT,
            )
        elif time.monotonic() - self._since > LONGEST_WAIT:
            raise OutOfReach(
                "images must be within reach, but none could be opened for "
                f"{LONGEST_WAIT:.0f} seconds. Received: {printable(path)} "
                f"({error.strerror})"
            )


def _error_of(path):
    """Why a file cannot be opened, an `OSError`; None if it can."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return error
    return None
