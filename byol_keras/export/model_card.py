"""A model card: what an export is, what it was trained on, and how well it does."""

import json
import pathlib
from collections.abc import Mapping

from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import ExportFolder, RunFolder

# Headings of its parts.
_SCORES, _RECIPE = "## Scores", "## Data and recipe"


def write_card(
    run_folder: pathlib.Path,
    folder: pathlib.Path,
    title: str,
    facts: Mapping[str, str],
    licence: str | None = None,
) -> pathlib.Path:
    """Writes `MODEL_CARD.md` beside an export, and returns its path.

    Args:
        run_folder, title, facts, licence: see `model_card`.
        folder: of the export.
    """
    path = ExportFolder(folder).model_card
    write_text(path, model_card(run_folder, title, facts, licence))
    return path


def rewrite_scores(run_folder: pathlib.Path) -> None:
    """Brings the scores in all cards of a run up to date; the rest stays as it is."""
    for path in RunFolder(run_folder).model_cards():
        before, _, rest = path.read_text().partition(_SCORES)
        _, _, after = rest.partition(_RECIPE)
        if after:
            text = f"{_SCORES}\n\n{_scores(run_folder)}\n\n{_RECIPE}"
            write_text(path, before + text + after)


def model_card(
    run_folder: pathlib.Path,
    title: str,
    facts: Mapping[str, str],
    licence: str | None = None,
) -> str:
    """Markdown on an export.

    Args:
        run_folder: whose `operative_config.gin` and `benchmarks/*.json` are told.
        title: str.
        facts: rows of the first table.
        licence: of the weights; None says that it is not stated.
    """
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    config = RunFolder(run_folder).operative_config
    text = config.read_text().strip() if config.exists() else "not in the run folder"
    return f"""# {title}

| | |
|---|---|
{rows}
| licence | {licence or "not stated"} |

Images come as they are, in 0..1: the normalisation is inside. Whoever made the images
that it was trained on may have terms of their own.

{_SCORES}

{_scores(run_folder)}

{_RECIPE}

```
{text}
```
"""


def _scores(run_folder):
    """A table of the results of the run's benchmarks, which are of the backbone."""
    rows = []
    for path in RunFolder(run_folder).benchmark_results():
        results = json.loads(path.read_text())["results"]
        rows += [
            f"| {path.stem} | {metric} | {value:.2f} |"
            for metric, value in results["trained"].items()
        ]
    if not rows:
        return "No benchmark of this run has been found."
    heads = [
        "Of the online backbone:",
        "",
        "| benchmark | metric | value |",
        "|---|---|---|",
    ]
    return "\n".join(heads + rows)
