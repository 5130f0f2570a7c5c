"""Reads what a run has left in its folder, whatever of it is there yet."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from byol_keras.results import provenance, records
from byol_keras.runtime import run_folder as paths
from byol_keras.runtime.atomic_files import write_text


class RunFolder(NamedTuple):
    """What a run folder holds; what is not there is empty.

    Args:
        name: of the folder.
        config: str. The operative configuration as gin writes it.
        metrics: lines of `metrics.jsonl`.
        health: verdict and readings of `doctor.CollapseDoctor`.
        starts: see `provenance.starts`.
        records: benchmark -> record, as `results.make_record` makes it.
        pictures: what `callback.Report` has made of images.
        exported: bool. Whether there is a backbone: the run has come to its end.
    """

    name: str
    config: str
    metrics: list[dict]
    health: dict
    starts: list[dict]
    records: dict[str, dict]
    pictures: dict
    exported: bool

    @property
    def settings(self) -> dict[str, str]:
        """Every value that was used, by `scope/name.parameter`."""
        return bindings(self.config)

    def series(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one quantity, in the order in which they were logged."""
        return [
            (line["step"], float(line[name]))
            for line in self.metrics
            if isinstance(line.get(name), int | float) and "step" in line
        ]

    @property
    def step(self) -> int:
        """The last step of the log; 0 before there is one."""
        return max((line.get("step", 0) for line in self.metrics), default=0)


def read_run(path: str | os.PathLike) -> RunFolder:
    """Reads a run folder, also one whose run is at work, or was cut short.

    Raises:
        ValueError: if there is no such folder, or nothing of a run in it.
    """
    folder = paths.RunFolder(path)
    if not folder.has_run():
        marks = ", ".join(mark.name for mark in folder.marks())
        raise ValueError(
            f"RUN must be a run folder, with one of {marks} or a benchmark in it. "
            f"Received: {path}"
        )
    config = _text(folder.operative_config) or _text(folder.config)
    return RunFolder(
        folder.path.resolve().name,
        config.replace(str(pathlib.Path.home()), "~"),
        _metrics(folder.metrics),
        _json_object(folder.health),
        provenance.starts(folder),
        _records(folder.benchmarks),
        _json_object(folder.report_pictures),
        folder.backbone.exists(),
    )


def write_pictures(folder: pathlib.Path, pictures: Mapping) -> None:
    """Keeps what was made of images, for pages that are written later."""
    write_text(paths.RunFolder(folder).report_pictures, json.dumps(pictures) + "\n")


def bindings(config: str) -> dict[str, str]:
    """Values of a configuration, as gin writes them, by name.

    Args:
        config: str. Gin breaks long values into several lines.
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
    """A JSON object; empty for anything else, as a line that is half written."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _records(folder):
    names = sorted(path.stem for path in folder.glob("*.json"))
    found = {name: records.read(folder, name) for name in names}
    return {name: record for name, record in found.items() if _is_record(record)}


def _is_record(record):
    return bool(
        record
        and isinstance(record.get("identity"), dict)
        and {"results", "interval", "seeds", "missing"} <= set(record)
        and "trained" in record["results"]
        and "baselines" in record["identity"]
    )
