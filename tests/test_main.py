"""One command runs all others."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from byol_keras.__main__ import COMMANDS, usage

from support import ROOT


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "byol_keras", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_command_line_of_the_package_is_a_command():
    package = ROOT / "byol_keras"
    rooms = {path.parent.name for path in package.glob("*/__main__.py")}
    assert set(COMMANDS) == rooms | {"train", "data-check"}
    assert all(name in usage() for name in COMMANDS)


def test_help_lists_the_commands_and_that_of_a_command_its_flags():
    assert run("--help").stdout == run().stdout == usage() + "\n"
    found = run("train", "--help").stdout
    for flag in ("gin_file", "gin_param", "model_dir", "dry_run"):
        assert f"--{flag}" in found.replace("[no]", "")
    assert found.index("--gin_file") < found.index("--helpfull")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "the first argument must be a command: train, "),
        (["data-check", "--pth=x"], "arguments must be flags of this command"),
    ],
)
def test_mistake_is_one_line(words, message):
    done = run(*words)
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_wheel_holds_recipes_and_data_and_trains_from_an_empty_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = tmp_path / "source"  # building leaves files behind
    for name in ("byol_keras", "gin"):
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = [*pip, "wheel", "--no-deps", f"--wheel-dir={tmp_path}", os.fspath(source)]
    subprocess.run(built, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    recipes = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("gin/*/*.gin")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"byol_keras/recipes/{name}" for name in recipes} <= names
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    target = f"--target={installed}"
    subprocess.run([*pip, "install", "--no-deps", target, wheel], check=True)
    empty.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "byol_keras", "train", "--dry_run"),
            "--gin_file=gin/pretrain/quickstart.gin",
        ],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": os.fspath(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2781 images" in done.stdout
    assert (installed / "bin/byol-keras").is_file()
