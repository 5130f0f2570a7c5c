"""A model card: what an export is, what it was trained on, and how well it does."""

import json
import pathlib
from collections.abc import Mapping


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
    config = run_folder / "operative_config.gin"
    text = config.read_text().strip() if config.exists() else "not in the run folder"
    return f"""# {title}

| | |
|---|---|
{rows}
| licence | {licence or "not stated"} |

Images come as they are, in 0..1: the normalisation is inside. Whoever made the images
that it was trained on may have terms of their own.

## Scores

{_scores(run_folder)}

## Data and recipe

```
{text}
```
"""


def _scores(run_folder):
    """A table of the results of the run's benchmarks, which are of the backbone."""
    rows = []
    for path in sorted((run_folder / "benchmarks").glob("*.json")):
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
