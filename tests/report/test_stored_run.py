"""A run folder is read, complete or not."""

import json

import pytest

from byol_keras.report.stored_run import bindings, read_run

from support.runs import RECORD, START, write_run


def test_values_of_several_lines_are_read_completely(tmp_path):
    settings = read_run(write_run(tmp_path / "run")).settings
    assert settings == {
        "train.batch_size": "128",
        "train.epochs": "4",
        "TwoViews.view1": "[@RandomResizedCrop(), @jitter/RandomApply()]",
        "RATE": "0.5",
    }


def test_comments_and_includes_are_no_bindings():
    assert bindings('# a = 1\ninclude "x.gin"\nimport b\n') == {}


def test_series_has_the_steps_of_a_quantity(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    assert run.series("knn/top1_k20") == [(40, 81.5)]
    assert [step for step, _ in run.series("loss")] == [10, 20, 30, 40]
    assert run.series("no such") == []
    assert run.step == 40


def test_incomplete_line_is_ignored(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "loss": 0.')
    assert read_run(folder).step == 40


def test_run_that_has_just_started_is_empty(tmp_path):
    (tmp_path / "config.gin").write_text("train.epochs = 3\n")
    run = read_run(tmp_path)
    assert run.settings == {"train.epochs": "3"}
    assert (run.metrics, run.health, run.records, run.pictures) == ([], {}, {}, {})
    assert (run.starts, run.step, run.exported) == ([], 0, False)


@pytest.mark.parametrize(
    "text", ["", "[1", "[]", "7", '{"results": {}}', json.dumps({"trained": 1})]
)
def test_other_json_files_are_ignored(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "benchmarks/other.json").write_text(text)
    (folder / "health.json").write_text(text)
    run = read_run(folder)
    assert list(run.records) == ["knn"]
    assert "verdict" not in run.health


def write_records(folder, **digests):
    for name, digest in digests.items():
        record = RECORD | {"identity": RECORD["identity"] | {"backbone": digest}}
        (folder / f"benchmarks/{name}.json").write_text(json.dumps(record))


def names_of(run):
    return [*run.records], [name for name, _ in run.others]


def test_records_are_split_by_the_weights_of_the_export(tmp_path):
    folder = write_run(tmp_path / "run")
    write_records(folder, svm="0ther", linear=None)
    assert names_of(read_run(folder)) == (["knn"], ["linear", "svm"])


def test_export_that_does_not_load_has_no_records(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "export/digests.json").unlink()
    assert names_of(read_run(folder)) == ([], ["knn"])


def test_changed_export_does_not_have_the_records_of_the_earlier_one(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "export/backbone.keras").write_bytes(b"other weights")
    assert names_of(read_run(folder)) == ([], ["knn"])


def test_folder_without_an_export_has_the_records_of_a_single_backbone(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "export/backbone.keras").unlink()
    assert names_of(read_run(folder)) == (["knn"], [])
    write_records(folder, svm="0ther")
    assert names_of(read_run(folder)) == ([], ["knn", "svm"])


def test_run_that_trains_again_has_only_earlier_records(tmp_path):
    folder = write_run(tmp_path / "run")
    resumed = START | {"step": 40, "total_steps": 50}
    (folder / "environment.json").write_text(json.dumps([START, resumed]))
    assert names_of(read_run(folder)) == (["knn"], [])
    assert read_run(folder).exported
    del resumed["seconds"]
    (folder / "environment.json").write_text(json.dumps([START, resumed]))
    assert names_of(read_run(folder)) == ([], ["knn"])
    assert not read_run(folder).exported


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_folder_without_a_run_is_refused(tmp_path, name):
    (tmp_path / "empty/benchmarks").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"model_dir must be a run folder.*Received: .*"
    ):
        read_run(tmp_path / name)


def test_home_folder_is_replaced_by_a_tilde(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    config = f"image_folder.path = '{tmp_path}/images'\n"
    (folder / "operative_config.gin").write_text(config)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_run(folder).settings == {"image_folder.path": "'~/images'"}
