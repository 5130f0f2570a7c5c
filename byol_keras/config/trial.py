"""Instantiates everything the config references, to report all errors together."""

from collections.abc import Callable, Sequence
from typing import Any

import gin

from byol_keras.config import graph
from byol_keras.config.bindings import missing, wrong_type
from byol_keras.config.types import parameters_of
from byol_keras.runtime.errors import Findings, lines_of


class Trial:
    """Makes what a configuration references, before the command makes it.

    The constructor makes everything that gin itself calls, parts first. A call is left
    out if its bindings have a mistake, or if one of its parts has been left out or has
    failed.

    Args:
        root: selector of the function that the command line calls.
        unlike: type. Functions that return it, and what they are a part of, are left
            out.
        found: receives a message for every failure.
    """

    def __init__(self, root: str, unlike: type, found: Findings):
        self.root, self.found = root, found
        self._left_out = set()
        self._uses = {}
        for use in graph.walk(root):
            self._uses[use.scopes, use.selector] = use
            returned = graph.result_of(graph.function_of(use.selector))
            if returned is unlike or self._has_mistake(use):
                self._left_out.add((use.scopes, use.selector))
            elif use.called and use.selector not in (root, graph.MACRO, graph.CONSTANT):
                selector = "/".join([*use.scopes, use.selector])
                self._try(use, gin.get_configurable(selector))

    def call(self, parameter: str, **arguments) -> Any:
        """Calls the function that an argument of the root refers to.

        Returns:
            Its result; None if it cannot be called or fails.
        """
        bound = self._callable(parameter, arguments)
        return None if bound is None else self._try(*bound, **arguments)

    def call_with_any(
        self,
        parameter: str,
        argument: str,
        values: Sequence,
        unlike: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        """Calls a function with each value of an argument until one call succeeds.

        For an argument whose value is not known yet. If all calls fail, the mistake of
        the first is found.

        Args:
            parameter: argument of the root that refers to the function.
            argument: name of the function's argument.
            values: to try.
            unlike: errors that depend on the argument only, and are no mistakes.
        """
        bound = self._callable(parameter, {argument})
        if bound is None:
            return
        use, function = bound
        errors = []
        for value in values:
            try:
                function(**{argument: value})
            except Exception as error:  # constructors raise errors of any kind
                errors.append(error)
            else:
                return
        if not isinstance(errors[0], unlike):
            self._add(errors[0], use)

    def _callable(self, parameter, arguments):
        """The use of a function, and the function; None if it cannot be called."""
        reference = graph.function_bound(self.root, parameter)
        if reference is None:
            return None
        key = tuple(reference.scopes), reference.config_key[1]
        use = self._uses[key]
        if key in self._left_out or any(missing(use, arguments)):
            return None
        return use, reference.scoped_configurable_fn

    def _has_mistake(self, use):
        if use.selector == self.root:
            return False
        lines = [*missing(use)] if use.called else []
        for name, (scope, value) in graph.bound(use.scopes, use.selector).items():
            package = self.root.partition(".")[0]
            lines.append(wrong_type(package, scope, use.selector, name, value))
        return any(lines) or bool(use.parts & self._left_out)

    def _try(self, use, function: Callable, **arguments):
        try:
            return function(**arguments)
        except Exception as error:  # constructors raise errors of any kind
            self._add(error, use)

    def _add(self, error, use):
        self._left_out.add((use.scopes, use.selector))
        self.found.add(_messages(error, use))


def _messages(error, use):
    """Messages on a failed call, with the name of what gin called."""
    lines = lines_of(error)
    argument, _, rule = lines[0].partition(" ")
    name = use.selector.rpartition(".")[2]
    if len(lines) > 1 or "Received" in rule:
        argument = argument.strip("`,")
        is_its_own = argument in (parameters_of(graph.function_of(use.selector)) or ())
        return [f"{name}.{argument} {rule}"] if is_its_own and not lines[1:] else lines
    values = graph.bound(use.scopes, use.selector).items()
    shown = ", ".join(f"{key}={value!r}" for key, (_, value) in values)
    reason = lines[0].partition(" (In call to")[0]
    return [f"{name} must be given what it takes ({reason}). Received: {shown}"]
