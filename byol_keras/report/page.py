"""Renders the HTML page of run folders."""

import datetime
import functools
import os
import pathlib
import re
from collections.abc import Sequence

import jinja2
import matplotlib
from matplotlib import colors

from byol_keras.monitoring.throughput import sentence
from byol_keras.report import chart_kinds, charts, verdicts
from byol_keras.report.stored_run import StoredRun, read_run
from byol_keras.results import records, table
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import check_local

# A map with more classes has no legend: it would be longer than the map.
MOST_CLASSES = 20
# Label -> patterns of a reading at the top of the page; the first match is shown.
_HEAD = (
    ("loss", "loss"),
    ("kNN top-1", r"knn/top1_k20|knn/top1_k\d+"),
    ("probe top-1", "probe/top1"),
    ("RankMe", "monitor/rankme"),
    ("spread", "monitor/projection_std"),
)


def write_page(
    folders: Sequence[str | os.PathLike], path: str | os.PathLike
) -> pathlib.Path:
    """Writes the page of one run, or the comparison of several, atomically.

    Args:
        folders: run folders.
        path: of the page.

    Raises:
        ValueError: for a folder without a run.
    """
    runs = _with_own_names([read_run(folder) for folder in folders], folders)
    check_local("path", path)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(runs))
    return path


def render(runs: Sequence[StoredRun]) -> str:
    """HTML of a page that loads no other file."""
    shared = {
        "now": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "size": {"width": charts.WIDTH, "height": charts.HEIGHT},
        "sections": _sections_of_charts(runs),
        "summaries": [_summary(run) for run in runs],
    }
    if len(runs) > 1:
        content = {"settings": differing(runs), "scores": scores(runs), "one": None}
    else:
        content = {"settings": [], "scores": [], "one": _details(runs[0])}
    return _template().render(**shared, **content)


@functools.cache
def _template():
    """The template, compiled once: that takes longer than rendering a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("byol_keras.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2")


def differing(runs: Sequence[StoredRun]) -> list[tuple[str, list[str]]]:
    """Settings, then versions and machines, that differ between runs; "" if missing."""
    rows = []
    for read in (lambda run: run.settings, _environment):
        of_runs = [read(run) for run in runs]
        for name in sorted({name for found in of_runs for name in found}):
            values = [found.get(name, "") for found in of_runs]
            rows += [(name, values)] if len(set(values)) > 1 else []
    return rows


def scores(runs: Sequence[StoredRun]) -> list[tuple[str, list[str]]]:
    """Benchmark results, then the last logged values, with one cell per run.

    Results of other weights than the run has now are left out.
    """
    keys = {
        (name, key): None
        for run in runs
        for name, record in run.records.items()
        for key in record["results"]["trained"]
    }
    rows = []
    for name, key in keys:
        cells = [
            table.cell(run.records[name], "trained", key) if name in run.records else ""
            for run in runs
        ]
        label = key if key.startswith(f"{name}/") else f"{key} ({name})"
        rows.append((label, cells))
    names = {name for run in runs for line in run.metrics for name in line}
    pattern = "loss|projection_std|monitor/(projection_)?rankme|shortcut/all"
    shown = {x for x in names if chart_kinds.is_score(x) or re.fullmatch(pattern, x)}
    for name in sorted(shown):
        cells = [_last_logged(run, name) for run in runs]
        rows.append((f"{name}, last logged", cells))
    return rows


def _last_logged(run, name):
    """The last value of a quantity, with the step of a score that is older than it."""
    points = run.series(name)
    if not points:
        return ""
    return charts.reading(points[-1][1]) + _of_earlier_step(run, name)


def _of_earlier_step(run, name):
    """The step of a score, in words, if the weights have changed since; else ""."""
    step = run.series(name)[-1][0]
    is_old = chart_kinds.is_score(name) and step < run.step
    return f", step {step:,}" if is_old else ""


def _sections_of_charts(runs):
    """Charts by the title of their section, without empty sections."""
    groups = {
        "Scores while training": chart_kinds.score_kinds(runs),
        "Loss and schedules": chart_kinds.KINDS,
        "Monitors, which need no labels": chart_kinds.MONITORS,
        "Speed": chart_kinds.SPEED,
    }
    found = {name: charts.make_charts(runs, kinds) for name, kinds in groups.items()}
    spectra = [
        (run.name if len(runs) > 1 else "", number, 0, spectrum["eigenvalues"])
        for number, run in enumerate(runs)
        if (spectrum := run.pictures.get("spectrum"))
    ]
    if spectra:
        chart = charts.chart_of_spectra(spectra)
        found["Monitors, which need no labels"].append(chart)
    return {name: section for name, section in found.items() if section}


def _summary(run):
    """The head of the page: state, verdicts and readings of a run."""
    start = run.starts[-1] if run.starts else {}
    classes = verdicts.of_classes(run)
    return {
        "name": run.name,
        "state": _state(run, start),
        "verdict": run.health.get("verdict"),
        "health": verdicts.of_health(run.health),
        # The verdict on classes contains them.
        "shortcuts": [] if classes else verdicts.of_shortcuts(run.health),
        "classes": classes,
        "speed": _speed(run),
        "skipped": int(max((y for _, y in run.series("skipped_steps")), default=0)),
        "readings": _readings(run),
        # One line for each flag.
        "command": re.sub(r" (?='?--)", " \\\\\n  ", start.get("command", "")),
        "time": _time(run.starts[0].get("time")) if run.starts else None,
        "resumed": max(len(run.starts) - 1, 0),
    }


def _details(run):
    """The parts of a page that only a single run has."""
    start = run.starts[-1] if run.starts else {}
    pictures = run.pictures
    found_map = pictures.get("map")
    return {
        "plan": start.get("plan") or {},
        "recipe": start.get("recipe"),
        "differences": start.get("differences") or {},
        "environment": _environment(run),
        "config": run.config,
        "augmentations": pictures.get("augmentations"),
        "neighbours": pictures.get("neighbours"),
        "map": found_map and found_map | _legend(found_map),
        "activations": pictures.get("activations"),
        "spectrum": pictures.get("spectrum"),
        "step": pictures.get("step"),
        "shortcuts": verdicts.shortcut_rows(run.health),
        "class_scores": verdicts.class_rows(run),
        "class_images": pictures.get("classes", {}).get("images"),
        "rows": table.rows(run.records) if run.records else [],
        "notes": table.notes(run.records) if run.records else [],
        "others": list(_scores_of_others(run)),
    }


def _scores_of_others(run):
    """Benchmark, metric, value and weights of results of other weights."""
    for name, record in run.others:
        digest = records.digest_of(record)
        for metric, value in record["results"]["trained"].items():
            yield name, metric, charts.reading(value), (digest or "unknown")[:12]


def _state(run, start):
    total = start.get("total_steps")
    if run.exported:
        return f"Finished after {total or run.step:,} steps; the backbone is exported."
    if not run.metrics:
        return "Nothing is logged yet."
    epoch = max(line.get("epoch", 1) for line in run.metrics)
    of = f" of {total:,}" if total else ""
    return (
        f"Not finished: at step {run.step:,}{of}, in epoch {epoch}, by the last line "
        "of the log."
    )


def _time(text):
    """The time of a start, in a readable form."""
    return datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")


def _speed(run):
    """What limits the speed of the run; None if it is not logged."""
    waits = [y for _, y in run.series("input_wait_share")]
    speeds = [y for _, y in run.series("images_per_second")]
    flops = [y for _, y in run.series("flops_per_second")]
    if not waits or not speeds:
        return None
    return sentence(_middle(speeds), _middle(waits), _middle(flops) if flops else None)


def _middle(values):
    return sorted(values)[len(values) // 2]


def _readings(run):
    """Labels and last values for the head of the page."""
    names = sorted({name for line in run.metrics for name in line})
    found = []
    for label, pattern in _HEAD:
        for part in pattern.split("|"):
            name = next((name for name in names if re.fullmatch(part, name)), None)
            if name:
                k = f", k = {name.rpartition('_k')[2]}" if "_k" in name else ""
                value = charts.reading(run.series(name)[-1][1])
                found.append((label + k + _of_earlier_step(run, name), value))
                break
    speeds = [y for _, y in run.series("images_per_second")]
    return [*found, ("images/s", charts.reading(_middle(speeds)))] if speeds else found


def _environment(run):
    """Versions and machine of the last start, by name."""
    if not run.starts:
        return {}
    start = run.starts[-1]
    machine = start.get("machine", {})
    found = dict(start.get("versions", {}))
    if start.get("commit"):
        found["commit"] = start["commit"]
    for name in ("platform", "cpus"):
        if name in machine:
            found[name] = str(machine[name])
    if "devices" in machine:
        found["devices"] = ", ".join(machine["devices"])
    return found


def _legend(found):
    """The colour of each class, and whether the map has a legend."""
    count = len(found.get("classes", []))
    if count <= MOST_CLASSES:
        name = "tab10" if count <= 10 else "tab20"
        palette = [colors.to_hex(c) for c in matplotlib.colormaps[name].colors]
    else:
        palette = [f"hsl({360 * n / count:.0f} 65% 52%)" for n in range(count)]
    return {"palette": palette, "named": count <= MOST_CLASSES}


def _with_own_names(runs, folders):
    """The runs, with their parent folders in equal names."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    return [
        run._replace(name="/".join(pathlib.Path(folder).resolve().parts[-2:]))
        for run, folder in zip(runs, folders, strict=True)
    ]
