"""Makes what gin would make, to hear at once of all that its constructors refuse."""

import re
from collections.abc import Callable
from typing import Any

import gin

from byol_keras.config.bindings import missing, wrong_type
from byol_keras.config.graph import (
    CONSTANT,
    MACRO,
    bound,
    function_of,
    is_reference,
    resolved,
    result_of,
    walk,
)
from byol_keras.config.types import parameters_of
from byol_keras.runtime.errors import Findings, lines_of

# What gin adds to the message of whatever is raised in a call.
_CALL = re.compile(
    r"In call to configurable '([\w.]+)'.*?(?: in scope '([\w/]+)')?$", re.MULTILINE
)


class Trial:
    """A trial of what a function of the command line is given by gin.

    At once it makes all that gin itself calls. What has a mistake that reading the
    bindings has shown, and what that is a part of, is left out.

    Args:
        root: whole name of the function that the command line calls.
        unlike: type. Neither what returns it nor what that is a part of is made.
        found: takes a line on everything that fails.
    """

    def __init__(self, root: str, unlike: type, found: Findings):
        self.root = root
        self.found = found
        self._left_out = set()
        self._uses = {(use.scopes, use.selector): use for use in walk(root)}
        for use in walk(root):
            key = (use.scopes, use.selector)
            if result_of(function_of(use.selector)) is unlike or self._cannot(use):
                self._left_out.add(key)
            elif use.called and use.selector not in (root, MACRO, CONSTANT):
                with gin.config_scope(list(use.scopes)):
                    self._try(key, gin.config._REGISTRY[use.selector].wrapper)

    def call(self, parameter: str, **arguments) -> Any:
        """Calls the function that an argument of the root refers to.

        Returns:
            What it returns; None if it cannot be called or fails.
        """
        reference = resolved(bound((), self.root).get(parameter, ("", None))[1])
        if not is_reference(reference) or reference.evaluate:
            return None
        key = (tuple(reference.scopes), reference.config_key[1])
        if key in self._left_out or any(missing(self._uses[key], arguments)):
            return None
        return self._try(key, reference.scoped_configurable_fn, **arguments)

    def _cannot(self, use):
        if use.parts & self._left_out or (use.called and any(missing(use, ()))):
            return use.selector != self.root
        return any(
            wrong_type(scope, use.selector, name, value)
            for name, (scope, value) in bound(use.scopes, use.selector).items()
        )

    def _try(self, key, function: Callable, **arguments):
        try:
            return function(**arguments)
        except Exception as error:  # whatever anybody's constructor raises
            self._left_out.add(key)
            self.found.add(_told(error))


def _told(error):
    """Lines on what has been raised, with the name of what gin called."""
    lines = lines_of(error)
    met = _CALL.search(str(error))
    if len(lines) > 1 or not met:
        return lines
    name, scope = met[1], met[2] or ""
    selector = gin.config._REGISTRY.matching_selectors(name)[0]
    argument, _, rule = lines[0].partition(" ")
    if "Received" in rule:
        argument = argument.strip("`,")
        is_its_own = argument in (parameters_of(function_of(selector)) or ())
        return [f"{name}.{argument} {rule}"] if is_its_own else lines
    values = bound(scope.split("/") if scope else (), selector)
    shown = ", ".join(f"{key}={value!r}" for key, (_, value) in values.items())
    reason = lines[0].partition(" (In call to")[0]
    return [f"{name} must be given what it takes ({reason}). Received: {shown}"]
