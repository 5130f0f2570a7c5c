"""Fingerprint of a run: the bindings and data that determine its result.

Every checkpoint stores it. It consists of the values that gin has used, defaults too.
"""

from collections.abc import Mapping

from byol_keras.config import graph

RUN = "byol_keras.train"
# Parameters of the run that determine what is learned, by their value or by what they
# refer to. Devices, threads, XLA, logs, checkpoints and callbacks are not among them:
# they change rounding at most.
ROOTS = (
    "backbone_fn",
    "batch_size",
    "dataset_fn",
    "epochs",
    "head_warmup_epochs",
    "last_batch",
    "learning_rate_fn",
    "model_fn",
    "optimizer_fn",
    "precision",
    "seed",
    "start_from",
    "target_ema_fn",
    "views_fn",
)
# Parameters on the place of the data; their content is in the digest.
NEUTRAL = ("data_dir", "download", "list_file", "manual_dir", "names_file", "path")
# Parameters that a later version added, and the values that leave a run as it was.
ADDED = {
    "BYOL.standardize_projections": "False",
    "image_folder.bits": "None",
    "image_folder.exif_orientation": "True",
    "image_folder.short_side": "None",
    "train.head_warmup_epochs": "0",
    "train.start_from": "None",
}
WHY = {
    "train.epochs": "learning rate and tau depend on the length of the run",
    "train.batch_size": "learning rate and steps per epoch depend on it",
    "data.digest": "of names, sizes and times of files: copies must keep the times",
}


def fingerprint(**facts: object) -> dict[str, str]:
    """The bindings of the current run, and facts, that determine its result.

    Call it after gin has called `train`.

    Args:
        **facts: what no binding has, such as the digest of the data.

    Returns:
        `scope/name.parameter` -> value as gin writes it, macros resolved, for all
        values that `ROOTS` reach, but for those in `ADDED`; and `data.<fact>` -> fact.
    """
    values = graph.operative_values(RUN, ROOTS, without=NEUTRAL)
    values = {
        name: value
        for name, value in values.items()
        if ADDED.get(name.rpartition("/")[2]) != value
    }
    return values | {f"data.{name}": str(value) for name, value in facts.items()}


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """One line for each binding that differs: its name, the old and the new value."""
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, "not there"), new.get(name, "not there")
        if before != after:
            why = f" ({WHY[name]})" if name in WHY else ""
            lines.append(f"{name}: {before} in the checkpoint, {after} now{why}")
    return lines
