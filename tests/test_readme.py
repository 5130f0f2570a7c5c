"""The README's first command, its Python example, and its tables.

test_docs.py runs all other commands and examples.
"""

import json
import re
import shlex
import subprocess
import sys

import pytest

from support import ROOT

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BASH = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
LOGISTIC = f"""
include "{ROOT}/gin/protocol/logistic.gin"
benchmark.benchmarks = [@logistic]
benchmark.baselines = ["random_init"]
train/clothing_small.split = "train"
test/clothing_small.split = "test"
logistic.train_data = @train/clothing_small()
logistic.test_data = @test/clothing_small()
logistic.transform = @resize_center_crop
logistic.l2 = (0.1, 1.0, 10.0, 100.0)
resize_center_crop.resize = 32
resize_center_crop.size = 32
"""


def example(text):
    (found,) = [block for block in PYTHON if text in block]
    return found


def shell(command, **options):
    """Runs `python -m ...` with this interpreter in the root of the repository."""
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
    exec(example("steps_per_epoch"), names)
    assert names["features"].shape == (64, 128)
    assert names["model"].optimizer.iterations.numpy() == 20


@pytest.mark.slow
def test_first_command_learns_more_than_random_weights(tmp_path):
    install_train_evaluate = BASH[0].split(" && ")
    commands = [part for part in install_train_evaluate if "byol_keras" in part]
    assert len(commands) == 2
    # A quarter of the epochs, since two tests share the cores. kNN gains later than a
    # linear classifier does: after so few epochs, by 0.5 to 6 percent.
    train, evaluate = (
        part.replace("runs/quickstart", str(tmp_path)) for part in commands
    )
    shell(f"{train} --gin_param=train.epochs=30")
    assert "trained" in shell(evaluate)
    classifier = tmp_path / "logistic.gin"
    classifier.write_text(LOGISTIC)
    module = "python -m byol_keras.benchmarks"
    shell(f"{module} --gin_file={classifier} --model_dir={tmp_path}")
    path = tmp_path / "benchmarks/logistic.json"
    results = json.loads(path.read_text())["results"]
    accuracy = {name: values["logistic/top1"] for name, values in results.items()}
    assert accuracy["trained"] >= accuracy["random_init"] + 5.0


@pytest.fixture
def tables(experiments):
    return experiments("tables")


@pytest.mark.parametrize(
    "name",
    sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md")),
)
def test_tables_of_an_experiment_are_generated_from_its_results(name, tables):
    folder = ROOT / "experiments" / name
    readme = (folder / "README.md").read_text()
    found = tables.of_experiment(folder)
    assert all(table in readme for table in found)
    assert bool(found) != ("Not run yet." in readme)


def test_index_of_experiments_is_generated(experiments):
    index = experiments("index")
    assert index.index_table() in (ROOT / "experiments/README.md").read_text()


def test_tables_of_the_readme_are_generated(tables):
    experiments = ROOT / "experiments"
    for name in ("clothing_small_resnet18_120e", "fashion_mnist_resnet18_8e"):
        assert tables.scores_table(experiments / name) in README
    assert tables.views_table(experiments / "speed") in README


def test_ratios_of_the_speed_page_are_measured_ones():
    speed = (ROOT / "docs/speed.md").read_text()
    found = json.loads((ROOT / "experiments/speed/frozen_features.json").read_text())
    for part in ("knn", "extraction"):
        assert f"{found[part]['ratio']:.2f} times" in speed
    assert found["knn"]["ratio"] <= 1.5
    assert found["extraction"]["ratio"] <= 1.1


def test_ratios_of_steps_and_runs_are_within_their_bounds(tables):
    folder = ROOT / "experiments/speed"
    steps, runs, safety = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("steps", "runs", "safety")
    )
    for case in tables.STEPS:
        assert steps[case]["ratio_to_floor"] <= 1.05
    assert steps["ema_and_lars"]["share"] <= 0.05
    assert steps["memory_ratio"] <= 1.25
    assert runs["fit"]["cached_views_ratio"] <= 1.04
    assert runs["fit"]["fresh_views_ratio"] <= 1.04
    assert safety["total_percent"] <= 3.0
    assert safety["doctor"]["percent"] <= 1.0


@pytest.mark.parametrize(
    ("name", "gain"),
    [("clothing_small_resnet18_120e", 10.0), ("clothing_resnet18_250e", 15.0)],
)
def test_every_seed_gained_over_random_weights_and_over_raw_pixels(name, gain):
    paths = sorted((ROOT / "experiments" / name / "results").glob("config_seed*.json"))
    assert len(paths) == 3
    for path in paths:
        results = json.loads(path.read_text())["benchmarks"]["knn"]["results"]
        score = {name: found["knn/top1_k20"] for name, found in results.items()}
        assert score["trained"] >= score["random_init"] + gain, path
        assert score["trained"] > score["raw_pixels"], path
