"""The values that gin has used, and the bindings that nothing has used."""

import os
import re

import gin

from byol_keras.config import bindings
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder

# Gin lists under a heading whatever was called, with or without parameters.
_CALLED = re.compile(r"^# Parameters for (?:\w+/)*(\S+):$", re.MULTILINE)
_MACRO = re.compile(r"^(\w+) = (.*)$", re.MULTILINE)
_REFERENCE = re.compile(r"@((?:\w+/)*)(?:\w+\.)*(\w+)")


def unused_bindings() -> list[str]:
    """Bindings that nothing has used so far, as `scope/name.parameter`.

    Call it when everything that the configuration names has been built. What a used
    binding hands on as a function that is called later, as `[@knn]` to a callback,
    counts as used with all that it names. One that bindings of inner scopes hide in
    every call is not used, unless it comes from an included file. Of an included file,
    what served a value that a later binding has replaced need not be used either.
    """
    configured = _bindings(gin.config_str(max_line_length=10**6))
    operative_text = gin.operative_config_str(max_line_length=10**6)
    # Gin lists what was used under the scope of its caller: `jitter/ColorJitter.hue`.
    operative = _bindings(operative_text)
    used = {_supplier(name, configured) for name in operative}
    hidden = {outer for name in operative for outer in _from_inside_out(name)}
    used |= hidden & bindings.default_names()
    used |= _used_later(configured, used, operative_text)
    return sorted(set(configured) - used - bindings.replaced_names())


def _supplier(name, configured):
    """The binding that gives a parameter its value in the scope of a call."""
    return next((n for n in _from_inside_out(name) if n in configured), name)


def _from_inside_out(name):
    """A binding's name, and those of the same parameter in the scopes around it."""
    *scopes, owner = name.split("/")
    for depth in range(len(scopes), -1, -1):
        yield "/".join([*scopes[:depth], owner])


def _used_later(configured, used, operative_text):
    """Names of bindings that functions not called yet, and what they name, will use."""
    called = set(_CALLED.findall(operative_text))
    references = [
        (scope, function)
        for name in used & set(configured)
        for scope, function in _REFERENCE.findall(configured[name])
        if function not in called
    ]
    later = set()
    while references:
        scope, function = references.pop()
        owned = [
            n for n in configured if n.rpartition("/")[2].startswith(f"{function}.")
        ]
        parameters = {name.rpartition(".")[2] for name in owned}
        found = {_supplier(f"{scope}{function}.{p}", configured) for p in parameters}
        found &= set(configured)
        for name in found - later:
            references += _REFERENCE.findall(configured[name])
        later |= found
    return later


def _bindings(text: str) -> dict[str, str]:
    """Values, as they are written, by name."""
    pairs = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {
        name: value for name, _, value in pairs if name[:1].isalpha() and "." in name
    }


def refuse_downloads() -> None:
    """Keeps what gin builds from downloading data, as a dry run should not."""
    bindings.bind_everywhere("byol_keras.tfds_dataset", "download", False)


def operative_bindings() -> dict[str, str]:
    """Every value that was used so far, as gin writes it, by `scope/name.parameter`.

    Macros are there by their names.
    """
    text = gin.operative_config_str(max_line_length=10**6)
    macros = dict(_MACRO.findall(text))
    return macros | _bindings(text)


def write_config(folder: str | os.PathLike) -> None:
    """Writes the configuration as parsed, and every value that was used."""
    run = RunFolder(folder)
    write_text(run.config, gin.config_str())
    write_text(run.operative_config, gin.operative_config_str())
