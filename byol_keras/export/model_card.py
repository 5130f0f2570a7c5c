"""Model card: inputs and outputs of an export, its recipe and its scores."""

import pathlib
from collections.abc import Mapping

from byol_keras.export.digest import exported_digests
from byol_keras.results import records, table
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
    scores = _scores(run_folder, folder)
    write_text(path, model_card(run_folder, title, facts, licence, scores))
    return path


def rewrite_scores(run_folder: pathlib.Path) -> None:
    """Updates the scores in all cards of a run, and leaves the rest unchanged."""
    for path in RunFolder(run_folder).model_cards():
        before, _, rest = path.read_text().partition(_SCORES)
        _, _, after = rest.partition(_RECIPE)
        if after:
            scores = _scores(run_folder, path.parent)
            text = f"{_SCORES}\n\n{scores}\n\n{_RECIPE}"
            write_text(path, before + text + after)


def rewrite_table(run_folder: pathlib.Path) -> None:
    """Removes results of other weights than the export's from the Markdown table."""
    run = RunFolder(run_folder)
    if run.benchmarks_table.exists():
        own, others = _split(run_folder, run.export)
        if others:
            text = table.markdown(own) if own else _scores(run_folder, run.export)
            write_text(run.benchmarks_table, text + "\n")


def model_card(
    run_folder: pathlib.Path,
    title: str,
    facts: Mapping[str, str],
    licence: str | None = None,
    scores: str = "",
) -> str:
    """The text of a card, in Markdown.

    Args:
        run_folder: folder of the run. The card has its operative configuration.
        title: str.
        facts: rows of the first table.
        licence: of the weights. None is shown as "not stated".
        scores: Markdown. Results of benchmarks on these weights.
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

{scores or "Not stated."}

{_RECIPE}

```
{text}
```
"""


def _split(run_folder, folder):
    return records.read_split(run_folder, lambda: exported_digests(folder))


def _scores(run_folder, folder):
    """A table of the benchmark results of exactly the weights that are exported."""
    own, others = _split(run_folder, folder)
    rows = [
        f"| {name} | {metric} | {value:.2f} |"
        for name, record in own.items()
        for metric, value in record["results"]["trained"].items()
    ]
    if rows:
        heads = [
            "Scores of the exported weights:",
            "",
            "| benchmark | metric | value |",
            "|---|---|---|",
        ]
        return "\n".join(heads + rows)
    if not others:
        return "No benchmark of this run has been found."
    return (
        "No benchmark of these weights has been found. The run folder has results of "
        f"other weights, which are not shown here: {len(others)}."
    )
