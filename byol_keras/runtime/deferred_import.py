"""Defers an import that another library makes at its own import but rarely uses."""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator


class _StandIn(types.ModuleType):
    """Imports the module of its name when one of its attributes is read."""

    def __getattr__(self, attribute):
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


@contextlib.contextmanager
def deferred(name: str) -> Iterator[None]:
    """Lets `import name` return a stand-in that imports the module on first use.

    Outside of the block `import name` works as usual.

    Args:
        name: str. A top-level module.
    """
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _StandIn(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
