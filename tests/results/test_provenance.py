"""Provenance: commands without private paths, commits, versions and machines."""

import json
import pathlib
import platform
import subprocess

from byol_keras.config.syntax import Origin
from byol_keras.results import provenance
from byol_keras.version import __version__

HERE, HOME = pathlib.Path("/somewhere/project"), pathlib.Path("/somewhere")


def command(*words):
    return provenance.command_line(["/usr/bin/python3", *words], HERE, HOME)


def test_command_can_be_pasted_into_a_shell():
    words = ("-m", "byol_keras.train", '--gin_param=image_folder.path="a b"')
    expected = "python -m byol_keras.train '--gin_param=image_folder.path=\"a b\"'"
    assert command(*words) == expected


def test_paths_below_the_working_directory_are_relative():
    assert command(f"--model_dir={HERE}/runs/a") == "python --model_dir=runs/a"


def test_home_folder_is_not_named():
    assert command(f"--model_dir={HOME}/runs") == "python '--model_dir=~/runs'"


def add(folder, step):
    provenance.add_start(
        folder,
        argv=["python", "-m", "byol_keras.train"],
        plan={"data": f"images in {pathlib.Path.home()}/images"},
        origin=Origin("gin/pretrain/quickstart.gin", {"train.epochs": ("36", "4")}),
        step=step,
        total_steps=40,
    )


def test_starts_are_kept_in_order(tmp_path):
    add(tmp_path, 0)
    add(tmp_path, 20)
    first, second = provenance.starts(tmp_path)
    assert (first["step"], second["step"]) == (0, 20)
    assert first["recipe"] == "gin/pretrain/quickstart.gin"
    assert first["differences"] == {"train.epochs": ["36", "4"]}
    assert first["plan"] == {"data": "images in ~/images"}
    assert first["total_steps"] == 40
    assert first["versions"]["byol_keras"] == __version__
    assert first["machine"]["cpus"] >= 1


def test_duration_is_added_to_the_newest_start(tmp_path):
    add(tmp_path, 0)
    add(tmp_path, 20)
    provenance.add_seconds(tmp_path, 12.34)
    assert [start.get("seconds") for start in provenance.starts(tmp_path)] == [
        None,
        12.3,
    ]


def test_training_is_underway_between_its_start_and_its_end(tmp_path):
    assert not provenance.is_underway(provenance.starts(tmp_path))
    add(tmp_path, step=0)
    assert provenance.is_underway(provenance.starts(tmp_path))
    provenance.add_seconds(tmp_path, 1.0)
    assert not provenance.is_underway(provenance.starts(tmp_path))
    add(tmp_path, step=10)
    starts = provenance.starts(tmp_path)
    assert provenance.is_underway(starts)
    # The command again on a complete run takes no step, and adds no duration.
    starts[-1]["step"] = starts[-1]["total_steps"]
    assert not provenance.is_underway(starts)


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_of_the_source_has_a_mark_for_changes(tmp_path, monkeypatch):
    file = tmp_path / "package/results/provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(file))
    found = provenance.commit.__wrapped__
    assert found() is None
    git(tmp_path, "init")
    assert found() is None  # no commit yet
    file, result = tmp_path / "file", tmp_path / "experiments/speed/steps.json"
    result.parent.mkdir(parents=True)
    for path in (file, result):
        path.write_text("1")
    git(tmp_path, "add", "file", "experiments")
    git(tmp_path, "commit", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert found() == head
    result.write_text("2")
    assert found() == head
    file.write_text("2")
    assert found() == f"{head}+"


def test_folder_without_starts_has_none(tmp_path):
    assert provenance.starts(tmp_path) == []
    for text in ("", "{}", "[1"):
        (tmp_path / "environment.json").write_text(text)
        assert provenance.starts(tmp_path) == []
    (tmp_path / "environment.json").write_text(json.dumps([1, {"step": 3}]))
    assert provenance.starts(tmp_path) == [{"step": 3}]


def test_missing_package_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert {"numpy", "python"} <= set(provenance.versions())
    assert "no-such-package" not in provenance.versions()


def test_machine_has_no_host_name():
    machine = provenance.machine()
    assert machine.keys() == {"platform", "cpus", "devices"}
    assert machine["cpus"] >= 1 and "CPU" in machine["devices"]
    assert platform.node() not in json.dumps(machine)
