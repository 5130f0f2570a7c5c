"""Reads the results that `record.py` wrote."""

import json
import pathlib


def read_records(folder: pathlib.Path) -> dict[str, dict]:
    """All records in `results/` of an experiment, by file name."""
    paths = sorted((folder / "results").glob("*_seed*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def by_variant(folder: pathlib.Path) -> dict[str, list[dict]]:
    """Records of all seeds by name of the configuration, the base first."""
    found = {}
    for name, record in read_records(folder).items():
        found.setdefault(name.rpartition("_seed")[0], []).append(record)
    return dict(sorted(found.items(), key=lambda x: (x[0] != "base", x[0])))


def doctor_readings(record) -> list[dict]:
    """The lines of metrics with readings of the doctor, at most one per epoch."""
    return [x for x in record["epochs"] if "monitor/rankme" in x]


def results_of(records, benchmark) -> list[dict]:
    """Scores of each model, for every seed with this benchmark."""
    found = [record["benchmarks"].get(benchmark) for record in records]
    return [x["results"] for x in found if x]
