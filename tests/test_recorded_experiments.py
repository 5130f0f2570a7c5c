"""Configurations of experiments build, and their records are complete."""

import json
import re

import gin
import numpy as np
import pytest

from byol_keras import resnet18, train  # noqa: F401, registers `train` for gin
from byol_keras.benchmarks.__main__ import benchmark
from byol_keras.config import parse
from byol_keras.training import rules

from support import ROOT
from support.runs import write_run

EXPERIMENTS = ROOT / "experiments"
FILES = sorted(
    file for file in EXPERIMENTS.glob("*/*.gin") if file.stem != "benchmarks"
)
AGAIN = sorted(EXPERIMENTS.glob("*/results/again/*.json"))
RECORDED = sorted(EXPERIMENTS.glob("**/*_seed*.json"))
# Written by a script or by the benchmarks instead of `record.py`.
SCRIPTED = sorted(set(EXPERIMENTS.glob("**/*.json")) - set(RECORDED))


@pytest.fixture
def inputs(experiments, monkeypatch):
    """The script that makes images of known factors."""
    monkeypatch.syspath_prepend(EXPERIMENTS / "factors_resnet18_64px")
    return experiments("make_inputs")


@pytest.mark.parametrize("file", FILES, ids=lambda x: f"{x.parent.name}/{x.stem}")
def test_configuration_builds_and_uses_all_its_bindings(file, monkeypatch):
    monkeypatch.syspath_prepend(file.parent)
    parse.parse_gin([str(file)], [])
    rules.check_configuration()


@pytest.mark.parametrize("file", FILES, ids=lambda x: f"{x.parent.name}/{x.stem}")
def test_configuration_includes_a_base_and_describes_its_differences(file, experiments):
    text = file.read_text()
    assert text.startswith("# ")
    includes = [line for line in text.splitlines() if line.startswith("include ")]
    if file.stem not in ("base", "config"):
        assert experiments("tables").difference(file)
        assert includes == [f'include "experiments/{file.parent.name}/base.gin"']


def test_record_has_the_provenance_of_its_numbers(experiments, tmp_path):
    found = experiments("record").record(write_run(tmp_path / "run"), seed=3)
    assert found["seed"] == 3
    assert found["config"]["train.batch_size"] == "128"
    assert found["commits"] == ["0123abcd"]
    assert found["machine"]["cpus"] == 2
    assert found["train_seconds"] == 90.0
    assert [x["verdict"] for x in found["verdicts"]] == ["healthy", "shrinking"]
    assert [line["step"] for line in found["epochs"]] == [10, 20, 30, 40]
    assert found["epochs"][-1]["knn/top1_k20"] == 81.5
    knn = found["benchmarks"]["knn"]
    assert knn["results"]["trained"] == {"knn/top1_k20": 81.55}
    assert knn["backbone"] == "5ca1ab1e"


def test_seconds_are_unknown_after_an_interrupted_start(experiments, tmp_path):
    folder = write_run(tmp_path / "run")
    path = folder / "environment.json"
    (start,) = json.loads(path.read_text())
    path.write_text(json.dumps([{**start, "seconds": None}, start]))
    assert experiments("record").record(folder, seed=0)["train_seconds"] is None


@pytest.mark.parametrize(
    "file", RECORDED, ids=lambda x: str(x.relative_to(EXPERIMENTS).with_suffix(""))
)
def test_record_has_commits_versions_and_machine(file):
    found = json.loads(file.read_text())
    commits = found["commits"] + [x["commit"] for x in found["benchmarks"].values()]
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)
    assert found["seed"] == int(file.stem.rpartition("_seed")[2])
    assert found["config"]["train.seed"] == str(found["seed"])
    assert found["machine"]["cpus"] == 2
    assert found["versions"]["keras"]
    assert all(x["seconds"] > 0 for x in found["benchmarks"].values())
    # None for training that was interrupted and resumed.
    assert found["train_seconds"] is None or found["train_seconds"] > 0


@pytest.mark.parametrize(
    "file", SCRIPTED, ids=lambda x: str(x.relative_to(EXPERIMENTS).with_suffix(""))
)
def test_result_of_a_script_has_commit_versions_and_machine(file):
    found = json.loads(file.read_text())
    assert re.fullmatch("[0-9a-f]{40}", found["commit"])
    assert found["machine"]["cpus"] == 2
    assert found["versions"]["keras"]
    assert found["seconds"] > 0


def recorded(folder, name, seed, score, minutes, verdict):
    results = {"raw_pixels": 80.0, "random_init": 70.0, "trained": score}
    knn = {model: {"knn/top1_k20": value} for model, value in results.items()}
    reading = {"monitor/rankme": 1.0, "monitor/projection_rankme": 20.0 + seed}
    content = {
        "epochs": [reading, {"loss": 1.0}],
        "verdicts": [{"verdict": "healthy"}, {"verdict": verdict}],
        "train_seconds": 60.0 * minutes,
        "benchmarks": {"knn": {"results": knn}},
    }
    (folder / f"{name}_seed{seed}.json").write_text(json.dumps(content))


def test_table_of_variants_has_means_differences_and_worst_verdicts(
    experiments, tmp_path
):
    folder = tmp_path / "results"
    folder.mkdir()
    recorded(folder, "base", 0, 81.0, 2, "healthy")
    recorded(folder, "base", 1, 82.0, 4, "healthy")
    recorded(folder, "a_tau", 0, 75.0, 2, "collapsed")
    (tmp_path / "base.gin").write_text("# What the variants: they start from it.\n")
    words = "# base.gin, with one difference: a target\n# of now.\ninclude 'base.gin'\n"
    (tmp_path / "a_tau.gin").write_text(words)
    assert experiments("tables").variants_table(tmp_path).splitlines()[2:] == [
        "| raw pixels |  | 80.00 | - | - | - |",
        "| random init |  | 70.00 | - | - | - |",
        "| base |  | 81.50 ± 6.35 | 20.5 | healthy | 3.0 |",
        "| a_tau | a target of now | 75.00 | 20.0 | collapsed | 2.0 |",
    ]


def test_readings_are_held_against_knn_by_their_order(experiments, tmp_path):
    tables = experiments("tables")
    folder = tmp_path / "results"
    folder.mkdir()
    benchmark, metric = tables.LEAVE_ONE_OUT
    # The share that color predicts falls with kNN, RankMe is in another order.
    for place, (name, score, rank) in enumerate(
        [("base", 40.0, 9.0), ("a", 30.0, 8.0), ("b", 20.0, 10.0)]
    ):
        reading = dict.fromkeys(tables.READINGS, 0.5)
        reading |= {"monitor/rankme": rank, "shortcut/color": 0.1 * place}
        results = {"raw_pixels": 45.0, "random_init": 35.0, "trained": score}
        scores = {model: {metric: value} for model, value in results.items()}
        content = {
            "epochs": [{"monitor/rankme": 1.0}, reading],
            "benchmarks": {benchmark: {"results": scores}},
        }
        (folder / f"{name}_seed0.json").write_text(json.dumps(content))
        text = f"# base.gin with one difference: that of {name}.\n"
        (tmp_path / f"{name}.gin").write_text(text)
    assert tables.readings_table(tmp_path).splitlines()[4:] == [
        "| base | that of base | 40.00 | 9.00 | 0.50 | 0.00 |" + " 0.50 |" * 5,
        "| a | that of a | 30.00 | 8.00 | 0.50 | 0.10 |" + " 0.50 |" * 5,
        "| b | that of b | 20.00 | 10.00 | 0.50 | 0.20 |" + " 0.50 |" * 5,
    ]
    rows = tables.order_table(tmp_path).splitlines()
    assert rows[0].startswith("| reading, 3 runs |")
    assert "| RankMe | -0.50 | 0.667 |" in rows
    assert "| color | 1.00 | 0.000 |" in rows


def two_seeds(folder):
    folder.mkdir()
    recorded(folder, "config", 0, 81.0, 2, "healthy")
    recorded(folder, "config", 1, 82.0, 4, "healthy")


def test_table_of_scores_has_the_gain_of_each_seed(experiments, tmp_path):
    two_seeds(tmp_path / "results")
    assert experiments("tables").scores_table(tmp_path).splitlines()[2:] == [
        "| raw pixels | 80.00 |",
        "| random init | 70.00 |",
        "| BYOL | 81.50 ± 6.35 |",
        "| gain over random init | 11.50 ± 6.35 |",
    ]


def test_table_of_scores_marks_columns_without_all_seeds(experiments, tmp_path):
    two_seeds(tmp_path / "results")
    file = tmp_path / "results/config_seed1.json"
    content = json.loads(file.read_text())
    results = {"random_init": {"svm/best_mAP": 70.0}, "trained": {"svm/best_mAP": 90.0}}
    content["benchmarks"]["svm"] = {"results": results}
    file.write_text(json.dumps(content))
    lines = experiments("tables").scores_table(tmp_path).splitlines()
    assert lines[0] == "| percent, 2 seeds | kNN, k = 20 | SVM, mAP (1 of the seeds) |"
    assert lines[2] == "| raw pixels | 80.00 | - |"
    assert lines[-1] == "| gain over random init | 11.50 ± 6.35 | 20.00 |"


@pytest.mark.parametrize("file", AGAIN, ids=lambda x: x.stem)
def test_second_run_of_a_seed_has_the_same_weights_and_scores(file):
    first, second = (
        json.loads(path.read_text()) for path in (file.parents[1] / file.name, file)
    )
    assert second["config"] == first["config"]
    for name, found in second["benchmarks"].items():
        assert found["backbone"] == first["benchmarks"][name]["backbone"]
        assert found["results"] == first["benchmarks"][name]["results"]


def test_made_images_have_their_factors_and_are_sorted_by_them(inputs, tmp_path):
    inputs.write_images(tmp_path, num_images=30, num_labelled=20, num_test=5)
    assert len(list((tmp_path / "images").iterdir())) == 30
    for name, values in inputs.FACTORS.items():
        for split, count in {"train": 20, "test": 5}.items():
            found = list((tmp_path / name / split).glob("*/*.png"))
            assert len(found) == count
            assert {file.parent.name for file in found} <= set(values)
    red, blue = (
        inputs.draw(
            {
                "shape": "square",
                "colour": colour,
                "fill": "solid",
                "size": "large",
                "position": "2_3",
                "background": "lines",
            },
            np.random.default_rng(0),
        )
        for colour in ("red", "blue")
    )
    assert np.argmax(red[32, 46]) == 0
    assert np.argmax(blue[32, 46]) == 2
    differing = np.argwhere((red != blue).any(axis=-1))
    np.testing.assert_allclose(differing.mean(axis=0), [32.0, 46.0], atol=4.0)


def test_factors_are_probed_in_made_images(inputs, tmp_path, monkeypatch):
    inputs.write_images(
        tmp_path / "runs/factors", num_images=100, num_labelled=100, num_test=80
    )
    monkeypatch.chdir(tmp_path)
    file = EXPERIMENTS / "factors_resnet18_64px/benchmarks.gin"
    parse.parse_gin([str(file)], [])
    probes = gin.get_bindings(benchmark)["benchmarks"]
    assert set(probes) == set(inputs.FACTORS)
    results = probes["background"](resnet18(width=0.0625, stem="small"))
    assert 0.0 <= results["logistic/top1"] <= 100.0
