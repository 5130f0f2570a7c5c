"""Reads what `record.py` has written into the folder of an experiment."""

import json
import pathlib


def read_records(folder: pathlib.Path) -> dict[str, dict]:
    """What `record.py` has written into a folder's `results/`, by file name."""
    paths = sorted((folder / "results").glob("*_seed*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def by_variant(folder: pathlib.Path) -> dict[str, list[dict]]:
    """Records of all seeds by the name of their configuration, the base first."""
    found = {}
    for name, record in read_records(folder).items():
        found.setdefault(name.rpartition("_seed")[0], []).append(record)
    return dict(sorted(found.items(), key=lambda x: (x[0] != "base", x[0])))


def doctor_readings(record) -> list[dict]:
    """The lines that hold readings of the doctor, at most one per epoch."""
    return [x for x in record["epochs"] if "monitor/rankme" in x]


def results_of(records, benchmark) -> list[dict]:
    """Metrics of each model, for every seed that the benchmark was run for."""
    found = [record["benchmarks"].get(benchmark) for record in records]
    return [x["results"] for x in found if x]
