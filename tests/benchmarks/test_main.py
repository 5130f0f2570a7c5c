"""Claims about `python -m byol_keras.benchmarks` as a user meets it."""

import json
import pathlib
import subprocess
import sys

import gin
import keras
import pytest

from byol_keras import launch
from byol_keras.benchmarks.__main__ import benchmark
from byol_keras.export import export_backbone

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = ROOT / "gin/benchmarks/knn_fashion_mnist_small.gin"
SMALL = (
    "train/fashion_mnist_small.split = 'train[:60]'",
    "test/fashion_mnist_small.split = 'test[:20]'",
    "knn.k = (1, 20)",
)


@pytest.fixture(autouse=True)
def no_bindings():
    gin.clear_config()
    yield
    gin.clear_config()


def tiny_backbone(channels):
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    export_backbone(tiny_backbone(channels=1), folder / "export")
    return folder


def command_line(*arguments):
    command = [sys.executable, "-m", "byol_keras.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def in_process(run_folder, *bindings, model_dir=None):
    launch.parse_gin([str(RECIPE)], [*SMALL, *bindings])
    benchmark(str(run_folder), model_dir)


def error_line(capsys, *arguments, **keywords):
    with pytest.raises(SystemExit) as stop:
        in_process(*arguments, **keywords)
    assert stop.value.code == launch.EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_command_writes_the_results_and_prints_them(run_folder):
    done = command_line(
        f"--gin_file={RECIPE}",
        f"--model_dir={run_folder}",
        *(f"--gin_param={binding}" for binding in SMALL),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((run_folder / "benchmarks/knn.json").read_text())
    assert record["backbone"] == str(run_folder)
    assert "knn.k = (1, 20)" in record["config"]
    assert list(record["results"]) == ["raw_pixels", "random_init", "trained"]
    for values in record["results"].values():
        assert {"knn/top1_k1", "knn/top5_k1", "knn/top1_k20"} < set(values)
        assert all(0.0 <= value <= 100.0 for value in values.values())
    lines = done.stdout.replace("│", " ").splitlines()
    (row,) = [line for line in lines if "knn/top1_k20" in line]
    top1 = [values["knn/top1_k20"] for values in record["results"].values()]
    assert row.split()[1:] == [f"{value:.2f}" for value in top1]
    assert "retracing" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([f"--gin_file={RECIPE}"], "--model_dir or --backbone must name a backbone."),
        (
            ["--gin_file=gin/absent.gin", "--model_dir=absent"],
            "--gin_file must be an existing file.",
        ),
    ],
)
def test_command_ends_with_one_error_line_and_code_2(arguments, expected):
    done = command_line(*arguments)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {expected} Received: ")
    assert "Traceback" not in done.stderr


def test_random_init_is_a_fresh_draw_and_raw_pixels_need_no_model(run_folder, tmp_path):
    in_process(run_folder, model_dir=tmp_path)
    first = json.loads((tmp_path / "benchmarks/knn.json").read_text())["results"]
    gin.clear_config()
    in_process(run_folder, "benchmark.seed = 1", model_dir=tmp_path)
    second = json.loads((tmp_path / "benchmarks/knn.json").read_text())["results"]
    assert first["raw_pixels"] == second["raw_pixels"]
    assert first["trained"] == second["trained"]
    assert first["random_init"] != second["random_init"]
    assert first["random_init"] != first["trained"]


def test_without_a_run_folder_nothing_is_written(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_process(run_folder)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_a_backbone_is_one_line(tmp_path, capsys):
    assert "must hold a backbone" in error_line(capsys, tmp_path)


def test_unknown_baseline_is_one_line(run_folder, capsys):
    line = error_line(capsys, run_folder, "benchmark.baselines = ['supervised']")
    assert line.startswith("error: benchmark.baselines must be a list of names among")


def test_benchmarks_that_are_no_functions_are_one_line(run_folder, capsys):
    line = error_line(capsys, run_folder, "benchmark.benchmarks = 'knn'")
    assert line.startswith("error: benchmark.benchmarks must be a list of functions")


def test_backbone_of_other_channels_is_one_line(tmp_path, capsys):
    export_backbone(tiny_backbone(channels=3), tmp_path)
    line = error_line(capsys, tmp_path, "benchmark.baselines = []")
    assert line.startswith("error: data must have the backbone's 3 channels.")
