"""Every command and example of the README does what it says."""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from finished_runs import write_run

import byol_keras

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BASH = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def example(text):
    (found,) = [block for block in PYTHON if text in block]
    return found


def shell(command, **options):
    """Runs `python -m ...` with this interpreter, in the root of the repository."""
    words = shlex.split(command)
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fit_example_trains_and_returns_features():
    names = {}
    exec(example("model.fit"), names)
    assert names["features"].shape == (64, 128)
    assert names["model"].optimizer.iterations.numpy() == 20


def test_fit_example_has_at_most_ten_lines_of_code():
    lines = [line for line in example("model.fit").splitlines() if line.strip()]
    assert len(lines) <= 10


def test_own_images_command_is_a_dry_run_on_a_folder(tmp_path):
    (command,) = [block for block in BASH if "--dry_run" in block]
    for name in ("a", "b"):
        encoded = tf.io.encode_png(tf.zeros([300, 260, 3], tf.uint8))
        (tmp_path / f"{name}.png").write_bytes(encoded.numpy())
    command = command.replace("DIR", str(tmp_path))
    command += "--gin_param=train.batch_size=2"
    wide = {**os.environ, "COLUMNS": "400"}  # for the path
    assert f"images in {tmp_path}" in shell(command, env=wide)


@pytest.mark.slow
def test_own_images_are_previewed_embedded_and_searched_as_the_readme_says(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    images, run = tmp_path / "images", tmp_path / "run"
    images.mkdir()
    for number in range(64):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(20, 0)
        encoded = tf.io.encode_png(pixels.repeat(20, 1))
        (images / f"{number}.png").write_bytes(encoded.numpy())
    (run / "export").mkdir(parents=True)
    byol_keras.resnet18(width=0.125).save(run / "export/backbone.keras")
    (run / "operative_config.gin").write_text("RandomResizedCrop.size = 32")
    (preview,) = [block for block in BASH if "byol_keras.preview" in block]
    (embed,) = [block for block in BASH if "byol_keras.embed" in block]
    for command in (preview, *embed.strip().splitlines()):
        for name, path in (
            ("DIR", images),
            ("runs/mine", run),
            ("embeddings.npz", tmp_path / "embeddings.npz"),
            ("preview.", f"{tmp_path}/preview."),
            ("nearest.png", tmp_path / "nearest.png"),
            ("IMAGE", images / "5.png"),
        ):
            command = re.sub(rf"(?<=[=\"]){re.escape(name)}", str(path), command)
        output = shell(command)
    assert "1.0000  5.png" in output
    for file in ("preview.png", "preview.json", "embeddings.npz", "nearest.png"):
        assert (tmp_path / file).exists(), file


def test_paths_and_recipes_of_the_readme_exist():
    for path in re.findall(
        r"(?:gin|byol_keras|tests|experiments)/[\w./-]+\.\w+", README
    ):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"\| `([^`/]+\.gin)`", README):
        for expanded in expand(name):
            assert list(ROOT.glob(f"gin/*/{expanded}")), expanded


def expand(name):
    """`a_{1,2}.gin` as a shell expands it."""
    found = re.search(r"\{([^}]+)\}", name)
    if not found:
        return [name]
    return [name.replace(found.group(), part) for part in found.group(1).split(",")]


def test_report_command_compares_runs(tmp_path):
    (block,) = [block for block in BASH if "byol_keras.report" in block]
    _, command = block.strip().splitlines()
    for name in ("quickstart", "other"):
        write_run(tmp_path / "runs" / name)
    both = tmp_path / "both.html"
    command = command.replace("runs/", f"{tmp_path}/runs/")
    assert shell(command.replace("=both.html", f"={both}")).strip() == str(both)
    assert "2 runs compared" in both.read_text()


def test_test_command_exists():
    (command,) = [block for block in BASH if "tests/run" in block]
    assert (ROOT / shlex.split(command)[1]).exists()


@pytest.mark.slow
def test_first_command_learns_more_than_random_weights_hold(tmp_path):
    install_train_evaluate = BASH[0].split(" && ")
    commands = [part for part in install_train_evaluate if "byol_keras" in part]
    assert len(commands) == 2
    for command in commands:
        output = shell(command.replace("runs/quickstart", str(tmp_path)))
    assert "trained" in output
    results = json.loads((tmp_path / "benchmarks/knn.json").read_text())["results"]
    accuracy = {name: values["knn/top1_k20"] for name, values in results.items()}
    assert accuracy["trained"] >= accuracy["random_init"] + 5.0

    block = example("tf.saved_model.load").replace("runs/quickstart", str(tmp_path))
    names = {}
    exec(block, names)
    assert set(names["features"]) == {f"feature{n}" for n in range(1, 6)} | {"avgpool"}


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module("tables")


@pytest.mark.parametrize("kind", ["seeds_table", "suite_table"])
def test_quickstart_tables_are_generated_from_the_results(kind, tables):
    folder = ROOT / "experiments/fashion_mnist_small_resnet18_36e"
    table = getattr(tables, kind)(folder)
    for readme in (README, (folder / "README.md").read_text()):
        assert table in readme


def test_ratios_of_the_readme_are_those_measured():
    found = json.loads((ROOT / "experiments/speed/frozen_features.json").read_text())
    for part in ("knn", "extraction"):
        assert f"{found[part]['ratio']:.2f} times" in README
    assert found["knn"]["ratio"] <= 1.5
    assert found["extraction"]["ratio"] <= 1.1


def test_speed_tables_are_generated_from_what_was_measured(tables):
    folder = ROOT / "experiments/speed"
    table = tables.views_table(folder)
    for readme in (README, (folder / "README.md").read_text()):
        assert table in readme


def test_ratios_of_steps_and_runs_are_generated_and_within_their_bounds(tables):
    folder = ROOT / "experiments/speed"
    assert tables.ratios_table(folder) in (folder / "README.md").read_text()
    steps, runs, safety = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("steps", "runs", "safety")
    )
    for case in tables.STEPS:
        assert steps[case]["ratio_to_floor"] <= 1.0  # the README says less than both
    assert steps["ema_and_lars"]["share"] <= 0.05
    assert steps["memory_ratio"] <= 1.25
    assert runs["fit"]["cached_views_ratio"] <= 1.04
    assert runs["fit"]["fresh_views_ratio"] <= 1.04
    assert safety["total_percent"] <= 3.0
    assert safety["doctor"]["percent"] <= 1.0


def test_dense_table_is_generated_from_the_results(tables):
    folder = ROOT / "experiments/scenes_resnet18_dense"
    assert tables.scenes_table(folder) in (folder / "README.md").read_text()


def test_every_quickstart_gained_five_points_over_random_weights():
    folder = ROOT / "experiments/fashion_mnist_small_resnet18_36e/results"
    paths = list(folder.glob("seed*.json"))
    assert len(paths) == 3
    for path in paths:
        results = json.loads(path.read_text())["results"]
        gain = results["trained"]["knn/top1_k20"]
        gain -= results["random_init"]["knn/top1_k20"]
        assert gain >= 5.0, path
