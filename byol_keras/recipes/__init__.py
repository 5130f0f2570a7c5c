"""The gin files that come with the package.

In a checkout `recipes/gin` is a link to the folder `gin` of the repository; an
installed package has a copy of it here.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("pretrain", "benchmarks")


class Recipe(NamedTuple):
    """A complete configuration.

    Args:
        name: path from the folder of recipes without ending, as "pretrain/quickstart".
        path: of the file.
        title: first sentence of the comment at its top.
    """

    name: str
    path: pathlib.Path
    title: str


def root() -> pathlib.Path:
    """The folder that holds `gin/`, in which the paths of includes start."""
    here = pathlib.Path(__file__).parent
    # Where a checkout has no links, as on some Windows systems.
    return here if (here / "gin").is_dir() else here.parents[1]


def recipes() -> Iterator[Recipe]:
    """All recipes of pre-training, then those of benchmarks, by name."""
    for kind in KINDS:
        for path in sorted((root() / "gin" / kind).glob("*.gin")):
            yield Recipe(f"{kind}/{path.stem}", path, _title(path.read_text()))


def find(name: str) -> Recipe:
    """A recipe by name.

    Args:
        name: as "pretrain/quickstart", or "quickstart" where only one kind has it; an
            ending .gin and a path in front are accepted.

    Raises:
        ValueError: if no recipe, or more than one, has this name.
    """
    path = pathlib.PurePosixPath(name)
    stem = path.name.removesuffix(".gin")
    ends = f"{path.parent.name}/{stem}" if path.parent.name in KINDS else f"/{stem}"
    found = [recipe for recipe in recipes() if f"/{recipe.name}".endswith(ends)]
    if len(found) != 1:
        names = ", ".join(recipe.name for recipe in found) or "none of them"
        raise ValueError(
            "copy must name one recipe, as pretrain/quickstart. Received: "
            f"{name!r}, which is {names}"
        )
    return found[0]


def _title(text):
    """The comment at the top of a file up to the first full stop, in one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("# ") or line.startswith("# Source:"):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".")
