import json

import pytest

from byol_keras.report.run_folder import bindings, read_run

from support.runs import write_run


def test_values_that_gin_breaks_into_lines_are_read_whole(tmp_path):
    settings = read_run(write_run(tmp_path / "run")).settings
    assert settings == {
        "train.batch_size": "128",
        "train.epochs": "4",
        "TwoViews.view1": "[@RandomResizedCrop(), @jitter/RandomApply()]",
        "RATE": "0.5",
    }


def test_comments_and_includes_bind_nothing():
    assert bindings('# a = 1\ninclude "x.gin"\nimport b\n') == {}


def test_series_has_the_steps_at_which_a_quantity_was_logged(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    assert run.series("knn/top1_k20") == [(40, 81.5)]
    assert [step for step, _ in run.series("loss")] == [10, 20, 30, 40]
    assert run.series("no such") == []
    assert run.step == 40


def test_line_that_is_half_written_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "loss": 0.')
    assert read_run(folder).step == 40


def test_run_that_has_just_begun_is_read_with_nothing_in_it(tmp_path):
    (tmp_path / "config.gin").write_text("train.epochs = 3\n")
    run = read_run(tmp_path)
    assert run.settings == {"train.epochs": "3"}
    assert (run.metrics, run.health, run.records, run.pictures) == ([], {}, {}, {})
    assert (run.starts, run.step, run.exported) == ([], 0, False)


@pytest.mark.parametrize(
    "text", ["", "[1", "[]", "7", '{"results": {}}', json.dumps({"trained": 1})]
)
def test_file_of_another_kind_among_the_benchmarks_is_no_record(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "benchmarks/other.json").write_text(text)
    (folder / "health.json").write_text(text)
    run = read_run(folder)
    assert list(run.records) == ["knn"]
    assert "verdict" not in run.health


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_folder_without_a_run_is_refused(tmp_path, name):
    (tmp_path / "empty/benchmarks").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"RUN must be a run folder.*Received: .*"):
        read_run(tmp_path / name)


def test_home_folder_is_not_named(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    config = f"image_folder.path = '{tmp_path}/images'\n"
    (folder / "operative_config.gin").write_text(config)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_run(folder).settings == {"image_folder.path": "'~/images'"}
