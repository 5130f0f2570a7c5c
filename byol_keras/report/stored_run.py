"""Reads the files of a run folder, complete or not."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from byol_keras.export.digest import exported_digests
from byol_keras.results import provenance, records
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder


class StoredRun(NamedTuple):
    """The contents of a run folder. Those of a missing file are empty.

    Args:
        name: of the folder.
        config: str. The operative configuration in gin's syntax.
        metrics: the logged lines.
        health: verdict and readings of `monitoring.collapse.CollapseDoctor`.
        starts: see `provenance.starts`.
        records: benchmark -> record of the weights that the run has now; see
            `records.make_record`.
        pictures: what `callback.Report` has stored.
        exported: bool. Whether the backbone is exported and training has not begun
            again since, that is, the run has finished.
        others: names and records of earlier or other weights; see `records.Split`.
    """

    name: str
    config: str
    metrics: list[dict]
    health: dict
    starts: list[dict]
    records: dict[str, dict]
    pictures: dict
    exported: bool
    others: Sequence[tuple[str, dict]] = ()

    @property
    def settings(self) -> dict[str, str]:
        """All values that the run used, by `scope/name.parameter`."""
        return bindings(self.config)

    def series(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one quantity, in the order of the log."""
        return [
            (line["step"], float(line[name]))
            for line in self.metrics
            if isinstance(line.get(name), int | float) and "step" in line
        ]

    @property
    def step(self) -> int:
        """The last step of the log; 0 if the log is empty."""
        return max((line.get("step", 0) for line in self.metrics), default=0)


def read_run(model_dir: str | os.PathLike) -> StoredRun:
    """Reads a run folder. The run may still be training, or have been stopped.

    Raises:
        ValueError: if there is no such folder, or it has no file of a run.
    """
    folder = RunFolder(model_dir)
    if not folder.has_run():
        marks = ", ".join(mark.name for mark in folder.marks())
        raise ValueError(
            f"model_dir must be a run folder, with one of {marks} or a benchmark in "
            f"it. Received: {model_dir}"
        )
    config = _text(folder.operative_config) or _text(folder.config)
    starts = provenance.starts(folder)
    own, others = _records(folder, starts)
    return StoredRun(
        folder.path.resolve().name,
        config.replace(str(pathlib.Path.home()), "~"),
        _metrics(folder.metrics),
        _json_object(folder.health),
        starts,
        own,
        _json_object(folder.report_pictures),
        folder.backbone.exists() and not provenance.is_underway(starts),
        others,
    )


def write_pictures(folder: pathlib.Path, pictures: Mapping) -> None:
    """Stores pictures for later pages."""
    write_text(RunFolder(folder).report_pictures, json.dumps(pictures) + "\n")


def bindings(config: str) -> dict[str, str]:
    """Values of a configuration in gin's syntax, by name.

    Args:
        config: str. Long values may span several lines.
    """
    found, name = {}, None
    for line in config.splitlines():
        if line[:1] in (" ", "\t") and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
        elif " = " in line and not line.startswith("#"):
            name, _, value = line.partition(" = ")
            found[name] = value.removesuffix("\\").strip()
        else:
            name = None
    return found


def _text(path):
    return path.read_text(errors="replace") if path.is_file() else ""


def _metrics(path):
    return [line for line in map(_parsed, _text(path).splitlines()) if line]


def _json_object(path):
    return _parsed(_text(path))


def _parsed(text):
    """A JSON object; empty for anything else, such as an incomplete line."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _records(folder, starts):
    """The records, split by whether they are of the weights that the run has now."""
    if provenance.is_underway(starts):
        return records.read_split(folder, set)
    if not folder.backbone.exists():
        return records.read_split(folder, None)
    return records.read_split(folder, lambda: exported_digests(folder.export))
