"""Command line: flags, exit codes, and arguments shown as flags."""

import errno
import os
import shlex
import subprocess
import sys

import pytest
from absl import flags

from byol_keras.runtime import cli
from byol_keras.runtime.errors import Mistakes

from support.processes import command_line

FLAG_OF = {
    "model_dir": "model_dir",
    "backbone": "backbone",
    "allow_config_change": "allow_config_change",
    "form": "format",
    "mean": "mean",
    "std": "std",
}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "form must be one of x. Received: y",
            "--format must be one of x. Received: y",
        ),
        ("model_dir or backbone must be", "--model_dir or --backbone must be"),
        ("mean and std must be given", "--mean and --std must be given"),
        ("model_dir, config and data must", "--model_dir, config and data must"),
        ("use a new model_dir, or x", "use a new --model_dir, or x"),
        ("resume by model_dir=a/model_dir", "resume by --model_dir=a/model_dir"),
    ],
)
def test_arguments_are_shown_as_flags(message, expected):
    assert cli.flagged(message, FLAG_OF) == expected


@pytest.mark.parametrize(
    "message",
    [
        "x must be y. Received: model_dir",  # a value
        "train.model_dir must be y",  # a parameter that gin binds
        "the mean must be finite",  # an English word
        "mean.npz must be a file",  # a file
        "model_dirs must be y",  # another name
        "--model_dir must be y",  # a flag already
    ],
)
def test_other_words_are_not_taken_for_arguments(message):
    assert cli.flagged(message, FLAG_OF) == message


@pytest.fixture
def own_flags(monkeypatch):
    """Flags of a command, gone after the test."""
    values = flags.FlagValues()
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    monkeypatch.setattr(cli, "_renamed", {})
    flags.DEFINE_string("model_dir", None, "", flag_values=values)
    flags.DEFINE_string("format", None, "", flag_values=values)
    return values


@pytest.mark.parametrize("flag", ["model_dir", "format"])
def test_flags_that_are_urls_are_refused_in_one_line(own_flags, flag, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse_flags(["command", f"--{flag}=gs://bucket/run"])
    assert ended.value.code == cli.EXIT_USER_ERROR
    rule = f"error: --{flag} must be a local path; URLs are not supported. "
    assert capsys.readouterr().err == f"{rule}Received: gs://bucket/run\n"


def test_only_flags_of_the_running_command_are_shown(own_flags):
    assert cli.with_flags("model_dir must be x") == "--model_dir must be x"
    assert cli.with_flags("gin_file must be x") == "gin_file must be x"


def test_argument_with_another_name_than_its_flag_is_declared(own_flags):
    cli.rename_arguments(form="format", gin_files="gin_file")
    assert cli.with_flags("form must be x") == "--format must be x"
    # This command does not have the flag.
    assert cli.with_flags("gin_files must be x") == "gin_files must be x"


def test_outside_of_a_command_messages_name_arguments():
    assert cli.with_flags("model_dir must be x") == "model_dir must be x"


def test_each_mistake_is_a_line_on_stderr(own_flags, capsys):
    with pytest.raises(SystemExit) as stop, cli.user_errors():
        raise Mistakes(["model_dir must be x", "y"])
    assert stop.value.code == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "error: --model_dir must be x\nerror: y\n"


def test_errors_of_other_kinds_pass():
    with pytest.raises(TypeError), cli.user_errors((ValueError,)):
        raise TypeError("a bug")


@pytest.mark.parametrize("arguments", [("--modeldir=x",), ("x",)])
def test_unknown_flags_and_paths_are_user_errors(own_flags, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.parse_flags(["command", *arguments])
    assert stop.value.code == cli.EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: arguments must be flags")
    assert line.endswith(f"Received: {arguments[0]}")


def test_paths_are_returned_if_the_command_takes_them(own_flags):
    argv = ["command", "--model_dir=x", "a", "b"]
    assert cli.parse_flags(argv, with_paths=True) == ["command", "a", "b"]
    assert own_flags.model_dir == "x"


def test_command_can_be_pasted_into_a_shell():
    words = shlex.split(cli.command("train", gin_file="a b.gin", replay_step=3))
    expected = ["python", "-m", "byol_keras.train"]
    assert words == [*expected, "--gin_file=a b.gin", "--replay_step=3"]


def test_command_line_names_its_flags_where_the_library_names_arguments():
    done = command_line("train", "--strategy=none", f"--model_dir={__file__}")
    assert done.returncode == cli.EXIT_USER_ERROR
    errors = done.stderr.splitlines()
    assert "error: --strategy must be one of" in done.stderr
    assert (
        f"error: --model_dir must be a folder. Received: {__file__}, a file" in errors
    )
    assert "error: --gin_file must name at least one gin file" in done.stderr


def test_what_the_library_logs_is_on_stderr_of_a_command():
    script = """
import logging
from absl import app
from byol_keras.runtime import cli

def main(_):
    logging.getLogger("others").info("not shown")
    logging.getLogger("byol_keras").debug("not shown")
    logging.getLogger("byol_keras").info("80 images in DIR")
    logging.getLogger("byol_keras").warning("%d images could not be read", 3)

cli.define_flags()
app.run(main, flags_parser=cli.parse_flags)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    for line in ("80 images in DIR", "3 images could not be read"):
        assert done.stderr.count(line) == 1
    assert "not shown" not in done.stderr


@pytest.mark.parametrize("code, expected", [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_full_disk_has_another_exit_code_than_a_mistake(code, expected, capsys):
    with pytest.raises(SystemExit) as ending, cli.user_errors():
        raise OSError(code, os.strerror(code), "out.npz")
    assert ending.value.code == expected
    assert capsys.readouterr().err.count("error: ") == 1


INTERRUPTED = """
import os, pathlib, signal, sys
from byol_keras.runtime import atomic_files, cli

def main(argv):
    def interrupted(path):
        path.write_text("half")
        os.kill(os.getpid(), getattr(signal, argv[2]))
        signal.pause()

    atomic_files.write_whole(pathlib.Path(argv[1]), interrupted)

cli.run(main, with_paths=True)
"""


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_ends_a_command_in_one_line_without_half_a_file(name, code, tmp_path):
    file = tmp_path / "out.json"
    command = [sys.executable, "-c", INTERRUPTED, str(file), name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == code
    lines = result.stderr.splitlines()
    assert lines[-1] == "interrupted; run the same command again"
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
