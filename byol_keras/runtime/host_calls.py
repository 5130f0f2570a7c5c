"""Python functions inside `tf.data` pipelines that never keep a process from ending.

TensorFlow calls such functions from its own threads, which need the interpreter's lock.
A pipeline that is still alive when the interpreter finalizes is destroyed by a thread
that holds the lock and waits for the calls under way: a deadlock. So when the process
ends, before finalization, every call returns at once, and the end of the process waits
until the buffers of the pipelines are full and no more calls arrive.
"""

import atexit
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# Seconds without a call after which pipelines are idle. The native operations between
# two calls for one element, such as decoding, take less.
_QUIET = 0.3
# Seconds that the end of the process waits at most.
_LONGEST_WAIT = 5.0


class _Calls:
    """Counts the calls under way, and ends them once the process ends."""

    def __init__(self):
        self._lock = threading.Lock()
        self._under_way = 0
        self._last = float("-inf")
        self._ending = threading.Event()

    def __enter__(self):
        with self._lock:
            self._last = time.monotonic()
            if self._ending.is_set():
                # TensorFlow reads it as the end of the data, without a warning.
                raise StopIteration
            self._under_way += 1

    def __exit__(self, *_):
        with self._lock:
            self._last = time.monotonic()
            self._under_way -= 1

    def end(self):
        """Ends all later calls at once, and waits until no more arrive."""
        self._ending.set()
        deadline = time.monotonic() + _LONGEST_WAIT
        while time.monotonic() < deadline and not self._are_idle():
            time.sleep(0.01)

    def pause(self, seconds):
        """Waits; a call that waits when the process ends is ended, too."""
        if self._ending.wait(seconds):
            raise StopIteration

    def _are_idle(self):
        with self._lock:
            waited = time.monotonic() - self._last
            return not self._under_way and waited > _QUIET


_calls = _Calls()
atexit.register(_calls.end)


def pause(seconds: float) -> None:
    """Waits, also within a function of a pipeline, but not beyond the process's end."""
    _calls.pause(seconds)


def host_function(
    function: Callable, inputs: list, dtypes: Any, stateful: bool = True
) -> Any:
    """`tf.numpy_function` for pipelines that may be alive when the process ends.

    Args:
        function: NumPy arrays -> a NumPy array or a tuple of them.
        inputs: tensors.
        dtypes: `tf.DType`, or a list of them, of the results.
        stateful: bool. Whether equal inputs may give different results.

    Returns:
        Tensors of unknown shape.
    """

    @tf.autograph.experimental.do_not_convert
    @functools.wraps(function)
    def counted(*arrays):
        with _calls:
            return function(*arrays)

    return tf.numpy_function(counted, inputs, dtypes, stateful=stateful)


def host_iterator(values: Callable[[], Iterator]) -> Callable[[], Iterator]:
    """A generator function for `tf.data.Dataset.from_generator`, likewise.

    Args:
        values: () -> iterator.
    """

    def counted():
        iterator = values()
        while True:
            try:
                with _calls:
                    value = next(iterator)
            except StopIteration:
                return
            yield value

    return counted
