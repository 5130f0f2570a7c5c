"""Records of benchmarks: scores, and the identity of everything that they depend on.

A score is only shown for the weights that it was measured on: whatever shows stored
scores takes them from `read_split`.
"""

import functools
import itertools
import json
import math
import os
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

import tensorflow as tf

from byol_keras.results import provenance
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder

CONFIDENCE = 0.95


@functools.cache
def t_quantile(degrees: int) -> float:
    """The t for which Student's distribution has 95 % of its mass in -t..t.

    Args:
        degrees: int. Degrees of freedom, at least 1.
    """
    # P(|T| > t) is the incomplete beta function at x = degrees / (degrees + t²).
    half = tf.constant([degrees / 2, 0.5], tf.float64)
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        outside = tf.math.betainc(half[0], half[1], tf.constant(x, tf.float64))
        low, high = (x, high) if outside < 1.0 - CONFIDENCE else (low, x)
    return math.sqrt(degrees * (1.0 - x) / x)


def mean_and_interval(
    runs: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means over the seeds, and the half-widths of their 95 % intervals.

    Args:
        runs: metric -> value, of every seed; all with the same metrics.

    Returns:
        Metric -> mean, and metric -> t s / √n, with s the standard deviation (n - 1).
        The second dict is empty for a single seed.
    """
    columns = {key: [run[key] for run in runs] for key in runs[0]}
    means = {key: statistics.fmean(values) for key, values in columns.items()}
    if len(runs) == 1:
        return means, {}
    scale = t_quantile(len(runs) - 1) / math.sqrt(len(runs))
    return means, {
        key: scale * statistics.stdev(values) for key, values in columns.items()
    }


def make_record(
    per_seed: Mapping[str, Sequence[Mapping[str, float]]],
    missing: Mapping[str, str],
    identity: Mapping[str, object],
    seconds: float,
) -> dict:
    """The record of one benchmark.

    Args:
        per_seed: model -> list of metric -> value, one per seed; a single one if the
            benchmark has no random part.
        missing: model -> why it has no result.
        identity: everything that the results depend on: "seeds" and others.
        seconds: float. Duration for all models together.

    Returns:
        A dict for JSON; `results` and `interval` are model -> metric -> number.
    """
    results, interval = {}, {}
    for model, runs in per_seed.items():
        results[model], half_widths = mean_and_interval(runs)
        if half_widths:
            interval[model] = half_widths
    return {
        "results": results,
        "interval": interval,
        "seeds": identity["seeds"],
        "per_seed": dict(per_seed),
        "missing": dict(missing),
        "seconds": round(seconds, 2),
        **provenance.made_by(),
        "identity": dict(identity),
    }


def write(folder: pathlib.Path, name: str, record: dict) -> pathlib.Path:
    """Writes a record atomically, and returns its path."""
    path = folder / f"{name}.json"
    write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def read(folder: pathlib.Path, name: str) -> dict | None:
    """The stored record; None without a file, or if it is not a JSON object."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def changed_entries(record: dict, identity: Mapping[str, object]) -> list[str]:
    """Names of the entries of an identity that differ from the record's.

    A record without an identity, from an early version, differs in all of them.

    Args:
        record: from `read`.
        identity: names -> values as in JSON, with lists in place of tuples.
    """
    stored = record.get("identity", {})
    return [name for name, value in identity.items() if stored.get(name) != value]


class Split(NamedTuple):
    """The records of a run folder by the weights that they were measured on.

    Args:
        own: benchmark -> record of the weights in question.
        others: names and records of other weights, or of weights that the record
            does not identify.
    """

    own: dict[str, dict]
    others: list[tuple[str, dict]]


def read_split(
    model_dir: str | os.PathLike, digests: Callable[[], Set[str]] | None
) -> Split:
    """Reads all records of a run folder, and separates those of some weights.

    Args:
        model_dir: run folder.
        digests: () -> digests that identify the weights; see `export.digest`. Called
            only if there are records. None for a folder without an export: results
            are then those of its own backbone, if all are of a single one.
    """
    first, *rest = [_scores_in(x) for x in RunFolder(model_dir).benchmark_folders()]
    found = [*first, *itertools.chain(*rest)]
    if not found:
        return Split({}, [])
    if digests is None:
        measured = {digest_of(record) for _, record in first}
        wanted = measured if len(measured) == 1 else set()
    else:
        wanted = digests()
    own, others = {}, []
    for name, record in found:
        if _is_complete(record) and name not in own and digest_of(record) in wanted:
            own[name] = record
        else:
            others.append((name, record))
    return Split(own, others)


def digest_of(record: Mapping) -> str | None:
    """Digest of the backbone of a record; None if an early version wrote it."""
    identity = record.get("identity")
    return identity.get("backbone") if isinstance(identity, dict) else None


def _scores_in(folder):
    """Names and records of a folder; other JSON files are ignored."""
    found = [(path.stem, read(folder.path, path.stem)) for path in folder.results()]
    return [(name, record) for name, record in found if _has_scores(record)]


def _has_scores(record):
    results = record and record.get("results")
    return isinstance(results, dict) and isinstance(results.get("trained"), dict)


def _is_complete(record):
    """Whether a record has all that a table needs, and names its backbone."""
    return (
        {"interval", "seeds", "missing"} <= set(record)
        and digest_of(record) is not None
        and "baselines" in record["identity"]
    )
