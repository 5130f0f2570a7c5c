"""The report command writes a page, and a mistake in one line."""

import pytest

from support import ROOT
from support.processes import command_line
from support.runs import write_run


def command(*arguments, cwd=ROOT):
    done = command_line("report", *arguments, cwd=cwd)
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_page_is_written_into_the_run_folder(tmp_path):
    folder = write_run(tmp_path / "run")
    assert command(str(folder))[:2] == (0, str(folder / "report.html"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["tests"], "model_dir must be a run folder"),
        ([], "RUN must name a run folder"),
        (["--ouf=x"], "arguments must be flags of this command"),
    ],
)
def test_mistake_is_one_line(arguments, rule):
    code, _, error = command(*arguments)
    assert code == 2
    assert error.splitlines()[-1].startswith(f"error: {rule}")
