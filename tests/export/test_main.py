"""The export command writes the export and its card, and a mistake in one line."""

import functools
import types

import pytest

from byol_keras.export import __main__ as command

from support.processes import command_line

run = functools.partial(command_line, "export")


@pytest.mark.slow
def test_command_line_writes_the_export_and_its_card(run_folder):
    given = (f"--model_dir={run_folder}", "--format=tflite", "--network=target")
    done = run(*given, "--size=24", "--licence=CC0-1.0")
    assert done.returncode == 0, done.stderr
    folder = run_folder / "export/target_backbone_tflite"
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "digests.json",
        "model.tflite",
    ]
    assert "| licence | CC0-1.0 |" in done.stdout


@pytest.mark.slow
def test_mistake_is_one_line(tmp_path):
    done = run(f"--model_dir={tmp_path}", "--format=torch")
    assert done.returncode == 2
    assert done.stderr.count("error: --format must be one of") == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the onnx export differs from the model by 1.00e-02 > 0.0001"),
        OSError(30, "Read-only file system", "model.onnx"),
    ],
    ids=["rejected", "read-only"],
)
def test_failed_export_is_one_line(error, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise error

    names = ["format", "network", "part", "size", "licence"]
    given = {"model_dir": str(tmp_path), **dict.fromkeys(names)}
    monkeypatch.setattr(command.flags, "FLAGS", types.SimpleNamespace(**given))
    monkeypatch.setattr(command.cli, "with_flags", lambda line: line)
    monkeypatch.setattr(command, "export_network", fail)
    with pytest.raises(SystemExit) as stop:
        command.main(None)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"
