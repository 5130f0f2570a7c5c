"""The export command writes the export and its card, and a mistake in one line."""

import functools

import pytest

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
        "model.tflite",
    ]
    assert "| licence | CC0-1.0 |" in done.stdout


@pytest.mark.slow
def test_mistake_is_one_line(tmp_path):
    done = run(f"--model_dir={tmp_path}", "--format=torch")
    assert done.returncode == 2
    assert done.stderr.count("error: --format must be one of") == 1
