"""Paths of a run folder, and the errors of a folder that cannot be one."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from byol_keras.runtime import run_folder
from byol_keras.runtime.run_folder import (
    ExportFolder,
    RunFolder,
    check_local,
    check_model_dir,
)

# The contract with users: these names are documented.
DOCUMENTED = {
    "config": "config.gin",
    "operative_config": "operative_config.gin",
    "environment": "environment.json",
    "lock": "run.lock",
    "checkpoints": "checkpoints",
    "logs": "logs",
    "metrics": "metrics.jsonl",
    "health": "health.json",
    "bad_images": "bad_images.txt",
    "export": "export",
    "backbone": "export/backbone.keras",
    "saved_model": "export/saved_model",
    "model_card": "export/MODEL_CARD.md",
    "benchmarks": "benchmarks",
    "benchmarks_table": "benchmarks/table.md",
    "features": "benchmarks/features",
    "report": "report.html",
    "report_pictures": "report_pictures.json",
}


def test_every_path_is_the_documented_one():
    found = {k: v for k, v in vars(RunFolder("run")).items() if k != "path"}
    assert found == {k: pathlib.Path("run", name) for k, name in DOCUMENTED.items()}


def test_paths_that_depend_on_a_name_or_a_step():
    run = RunFolder("run")
    own = run.benchmark_folder()
    assert own.result("knn") == pathlib.Path("run/benchmarks/knn.json")
    assert own.output("knn") == pathlib.Path("run/benchmarks/knn")
    assert own.table == run.benchmarks_table
    other = pathlib.Path("run/benchmarks/backbone_0123456789ab")
    assert run.benchmark_folder("0123456789abcdef").path == other
    assert run.dump_report(7) == pathlib.Path(
        "run/nonfinite/step_000000007/report.json"
    )
    folder = pathlib.Path("run/export/target_projector_onnx")
    assert run.exported("target", "projector", "onnx") == folder
    assert ExportFolder(folder).model_card == folder / "MODEL_CARD.md"
    assert ExportFolder(folder).digests == folder / "digests.json"


def test_run_folder_is_a_path_itself():
    assert os.fspath(RunFolder("a/b")) == str(RunFolder(RunFolder("a/b"))) == "a/b"


def test_results_and_model_cards_are_found_in_order(tmp_path):
    run = RunFolder(tmp_path)
    own = run.benchmark_folder()
    assert own.results() == run.model_cards() == []
    for path in (own.result("svm"), own.result("knn"), own.table):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    cards = [run.model_card, ExportFolder(run.exported("a", "b", "c")).model_card]
    for card in cards:
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text("")
    assert own.results() == [own.result("knn"), own.result("svm")]
    assert run.model_cards() == sorted(cards)


def test_folders_of_other_backbones_follow_that_of_the_run(tmp_path):
    run = RunFolder(tmp_path)
    others = [run.benchmark_folder(digest).path for digest in ("aa", "bb")]
    for path in reversed(others):
        path.mkdir(parents=True)
    (run.benchmarks / "backbone_cc").write_text("a file")
    found = [folder.path for folder in run.benchmark_folders()]
    assert found == [run.benchmarks, *others]


@pytest.mark.parametrize("name", ["config.gin", "health.json", "benchmarks/knn.json"])
def test_folder_has_a_run_as_soon_as_one_file_is_written(tmp_path, name):
    run = RunFolder(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    assert not run.has_run()
    (tmp_path / name).write_text("")
    assert run.has_run()


def test_make_creates_all_folders_and_keeps_an_existing_one(tmp_path):
    run = RunFolder.make(tmp_path / "a/b")
    run.metrics.write_text("kept")
    assert RunFolder.make(tmp_path / "a/b").metrics.read_text() == "kept"


@pytest.mark.parametrize("name", [None, ""])
def test_run_folder_must_be_named(name):
    with pytest.raises(ValueError, match=r"^model_dir must name .* Received: none$"):
        check_model_dir(name)


@pytest.mark.parametrize(
    "path", ["gs://bucket/run", "s3://a", "FILE:///tmp", "hdfs://"]
)
def test_urls_are_not_taken_for_local_folders(path):
    rule = f"^path must be a local path; URLs are not supported. Received: {path}$"
    with pytest.raises(ValueError, match=rule):
        check_local("path", path)


@pytest.mark.parametrize("path", ["gs:", "a/gs://b", "C:\\run", "run:1", "/", ""])
def test_names_with_colons_are_local(path):
    check_local("path", path)


def test_run_folder_must_not_be_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^model_dir must be a local .* gs://b/run$"):
        RunFolder.make("gs://b/run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["gs", "s3", "file", "hdfs", "https", "abfs+x"])
def test_paths_of_a_url_are_refused(scheme):
    rule = rf"^model_dir must be a local path; .* Received: {re.escape(scheme)}://b/run"
    with pytest.raises(ValueError, match=rule):
        RunFolder(f"{scheme}://b/run")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_run_folder_must_not_be_a_file_or_below_one(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^model_dir must be a folder\. .*, a file$"):
        RunFolder.make(tmp_path / name)


def test_folder_that_cannot_be_written_is_a_value_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=r"^model_dir .* \(Permission denied\)$"):
        RunFolder.make(tmp_path / "run")


def test_module_imports_nothing_but_the_standard_library():
    script = f"""
import runpy, sys
runpy.run_path({run_folder.__file__!r})
print({{"numpy", "tensorflow", "keras", "absl"}} & set(sys.modules))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
