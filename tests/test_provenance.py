import json
import pathlib

import byol_keras
from byol_keras import provenance
from byol_keras.gin_syntax import Origin

HERE, HOME = pathlib.Path("/somewhere/project"), pathlib.Path("/somewhere")


def command(*words):
    return provenance.command_line(["/usr/bin/python3", *words], HERE, HOME)


def test_command_has_the_words_that_a_shell_takes_back():
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


def test_every_start_is_kept_in_their_order(tmp_path):
    add(tmp_path, 0)
    add(tmp_path, 20)
    first, second = provenance.starts(tmp_path)
    assert (first["step"], second["step"]) == (0, 20)
    assert first["recipe"] == "gin/pretrain/quickstart.gin"
    assert first["differences"] == {"train.epochs": ["36", "4"]}
    assert first["plan"] == {"data": "images in ~/images"}
    assert first["total_steps"] == 40
    assert first["versions"]["byol_keras"] == byol_keras.__version__
    assert first["machine"]["cpus"] >= 1


def test_folder_without_starts_has_none(tmp_path):
    assert provenance.starts(tmp_path) == []
    for text in ("", "{}", "[1"):
        (tmp_path / provenance.FILE).write_text(text)
        assert provenance.starts(tmp_path) == []
    (tmp_path / provenance.FILE).write_text(json.dumps([1, {"step": 3}]))
    assert provenance.starts(tmp_path) == [{"step": 3}]


def test_package_of_another_name_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert {"numpy", "python"} <= set(provenance.versions())
    assert "no-such-package" not in provenance.versions()
