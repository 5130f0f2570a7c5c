"""Finds phrases that documentation and messages must not use.

Each of them has a plainer counterpart: software *reports* or *prints*, a file *is* in a
folder, a run *continues*. "Tell apart" is allowed.
"""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

PHRASES = (
    r"(?:tells?|told|telling)\b(?! apart)",
    r"(?:lies?|whoever|hear of|makes of|becomes? of|whatever of|as of|so many)\b",
    r"(?:goes on|go on|takes? part|not believed)\b",
)
# Between two words: also the end of a line, and the start of a comment or a quote.
GAP = r"[\s#>-]+"
BANNED = re.compile(rf"\b(?:{'|'.join(PHRASES)})".replace(" ", GAP), re.IGNORECASE)


class Phrase(NamedTuple):
    """A banned phrase and the line where it starts."""

    line: int
    words: str


def in_text(text: str, first_line: int = 1) -> list[Phrase]:
    """Banned phrases of a text; one may continue on the next line."""
    return [
        Phrase(
            first_line + text.count("\n", 0, found.start()),
            " ".join(re.findall(r"\w+", found.group())),
        )
        for found in BANNED.finditer(text)
    ]


def in_gin(text: str) -> list[Phrase]:
    """Banned phrases in the comments of a gin file."""
    comments = ["".join(line.partition("#")[1:]) for line in text.split("\n")]
    return in_text("\n".join(comments))


def in_python(source: str) -> list[Phrase]:
    """Banned phrases in docstrings, messages and all other strings of a module.

    Names of tests count too, with their underscores read as spaces.
    """
    found = {x for line, text in _texts(ast.parse(source)) for x in in_text(text, line)}
    return sorted(found)


def _texts(tree) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
