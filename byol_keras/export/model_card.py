"""Model card: inputs and outputs of an export, its recipe and its scores."""

import json
import pathlib
from collections.abc import Mapping

from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import ExportFolder, RunFolder

# Headings of the card.
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
    """Updates the scores in all cards of a run, and leaves the rest unchanged."""
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
    """The text of a card, in Markdown.

    Args:
        run_folder: folder of the run. The card has its operative configuration and the
            results of its benchmarks.
        title: str.
        facts: rows of the first table.
        licence: of the weights. None is shown as "not stated".
    """
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    config = RunFolder(run_folder).operative_config
    text = config.read_text().strip() if config.exists() else "not in the run folder"
    return f"""# {title}

| | |
|---|---|
{rows}
| licence | {licence or "not stated"} |

The model takes images with values in 0..1; normalisation is its first layer. The images
that it was trained on may have terms of their own.

{_SCORES}

{_scores(run_folder)}

{_RECIPE}

```
{text}
```
"""


def _scores(run_folder):
    """A table of the benchmark results of the online backbone."""
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
        "Scores of the online backbone:",
        "",
        "| benchmark | metric | value |",
        "|---|---|---|",
    ]
    return "\n".join(heads + rows)
