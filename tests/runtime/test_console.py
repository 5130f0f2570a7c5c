"""Text that looks like markup is printed as it is."""

import ast
import io
import pathlib

import pytest
from rich.table import Table

import byol_keras
from byol_keras.runtime.console import plain_console

TEXTS = ["a[/x].png", "[bold]b[/bold].png", ":smile:", "[link=x]", "\\[c]", "[/]"]


@pytest.mark.parametrize("text", TEXTS)
def test_markup_is_shown_in_lines_cells_and_titles(text):
    file = io.StringIO()
    table = Table(f"column {text}", title=f"title {text}")
    table.add_row(f"cell {text}")
    console = plain_console(file=file, width=100)
    console.print(f"line {text}")
    console.print(table)
    for place in ("line", "column", "title", "cell"):
        assert f"{place} {text}" in file.getvalue()


def test_no_other_module_makes_a_console_that_takes_markup():
    package = pathlib.Path(byol_keras.__file__).parent
    for path in package.rglob("*.py"):
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if is_console(n))
        assert path.parts[-2:] == ("runtime", "console.py") or not any(calls), path


def is_console(node):
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console"
