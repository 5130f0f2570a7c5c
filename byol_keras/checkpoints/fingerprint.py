"""What the result of a run is a function of, binding by binding.

It is read from gin's operative configuration, which names every value that was used,
defaults too, and stored in every checkpoint.
"""

import re
from collections.abc import Mapping

# Parameters of `train` that what is learned is a function of, by themselves or by all
# that they name. Devices, threads, XLA, logs, checkpoints and callbacks are not among
# them: they change rounding at most, or nothing.
ROOTS = (
    "backbone_fn",
    "batch_size",
    "dataset_fn",
    "epochs",
    "last_batch",
    "learning_rate_fn",
    "model_fn",
    "optimizer_fn",
    "precision",
    "seed",
    "target_ema_fn",
    "views_fn",
)
# Parameters that say where data lie; what they are is in their digest.
NEUTRAL = ("data_dir", "download", "list_file", "manual_dir", "names_file", "path")
WHY = {
    "train.epochs": "learning rate and tau depend on the length of the run",
    "train.batch_size": "learning rate and steps per epoch depend on it",
    "data.digest": "of names, sizes and times of files: copies must keep the times",
}

_MACRO = re.compile(r"%(\w+)")
_REFERENCE = re.compile(r"@((?:\w+/)*)([\w.]+)")


def fingerprint(bindings: Mapping[str, str], **facts: object) -> dict[str, str]:
    """The part of a configuration that the result of a run is a function of.

    Args:
        bindings: `scope/name.parameter` -> value as gin writes it, of the operative
            configuration; macros by their names.
        **facts: what no binding says, such as the digest of the data.

    Returns:
        The bindings that `ROOTS` reach, macros resolved, and the facts as text.
    """
    found = {}
    names = [f"train.{root}" for root in ROOTS]
    while names:
        name = names.pop()
        if name in found or name not in bindings or _parameter(name) in NEUTRAL:
            continue
        found[name] = _MACRO.sub(
            lambda macro: bindings.get(macro[1], macro[0]), bindings[name]
        )
        for scope, function in _REFERENCE.findall(found[name]):
            # A reference without a scope is called in that of its caller.
            scope = scope.rstrip("/") or name.rpartition("/")[0]
            names += [other for other in bindings if _is_of(other, scope, function)]
    return found | {f"data.{name}": str(value) for name, value in facts.items()}


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """One line for each binding that differs: its name, the old and the new value."""
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, "not there"), new.get(name, "not there")
        if before != after:
            why = f" ({WHY[name]})" if name in WHY else ""
            lines.append(f"{name}: {before} in the checkpoint, {after} now{why}")
    return lines


def _parameter(name):
    return name.rpartition(".")[2]


def _is_of(name, scope, function):
    """Whether a binding is of a function; either may be written with its modules."""
    name_scope, _, rest = name.rpartition("/")
    known = rest.rpartition(".")[0]
    same = f".{known}".endswith(f".{function}") or f".{function}".endswith(f".{known}")
    return name_scope == scope and same
