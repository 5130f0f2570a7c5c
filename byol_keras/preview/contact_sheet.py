"""Plots originals, their two views and the operations applied to them."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from byol_keras.preview.effects import Effect

# Colours of the boxes that show the crops of the two views.
COLORS = {"view1": "#1b6ca8", "view2": "#c4622d"}
GOOD, BAD = "#3a7d44", "#b3261e"
_ROW_INCHES, _BAR_INCHES, _WIDTH_INCHES = 1.75, 0.3, 12.0


class Sample(NamedTuple):
    """One row of the sheet.

    Args:
        image: float `[h, w, C]` in 0..1; may be smaller than the original.
        views: by "view1" and "view2", float `[S, S, C]` in 0..1.
        captions: by view, what was done; see `describe.describe_view`.
        boxes: by view, top, left, height and width of the crop as shares of the image,
            for views with a crop.
    """

    image: np.ndarray
    views: dict[str, np.ndarray]
    captions: dict[str, Sequence[str]]
    boxes: dict[str, tuple[float, float, float, float]]


def require_matplotlib() -> None:
    """Raises a `ValueError` that names the extra unless matplotlib is installed."""
    if not importlib.util.find_spec("matplotlib"):
        raise ValueError(
            'a picture needs matplotlib: pip install "byol_keras[report]". '
            "Received: no module matplotlib"
        )


def plot_contact_sheet(
    samples: Sequence[Sample],
    effects: Sequence[Effect],
    title: str,
    path: pathlib.Path,
) -> None:
    """Writes the sheet as PNG.

    Args:
        samples: its rows.
        effects: of all operations, plotted below the samples as the measured shares
            against the configured rates.
        title: str.
        path: PNG file.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    heights = [_ROW_INCHES * len(samples) + 0.4, _BAR_INCHES * (len(effects) + 3)]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.5), dpi=90)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11)
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    grid = above.subplots(
        len(samples), 5, squeeze=False, width_ratios=(1.1, 1, 1.1, 1, 1.1)
    )
    for axes, sample in zip(grid, samples, strict=True):
        _plot_sample(axes, sample)
    heads = (_original(samples[0].image.shape[2]), "view1", "", "view2", "")
    for axes, name in zip(grid[0], heads, strict=True):
        axes.set_title(name, fontsize=10, color=COLORS.get(name, "black"))
    _plot_effects(below.subplots(), effects)
    figure.savefig(path)


def displayed(image: np.ndarray) -> np.ndarray:
    """The first three channels, or the first as grey, `[h, w, 3]` in 0..1."""
    kept = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    return np.broadcast_to(np.clip(kept, 0.0, 1.0), (*image.shape[:2], 3))


def _original(channels):
    return "original" if channels <= 3 else f"original, 3 of {channels} channels"


def _plot_sample(axes, sample):
    from matplotlib.patches import Rectangle

    original, *others = axes
    original.imshow(displayed(sample.image))
    height, width = sample.image.shape[:2]
    for name, (top, left, high, wide) in sample.boxes.items():
        corner = (left * width - 0.5, top * height - 0.5)
        original.add_patch(
            Rectangle(
                corner,
                wide * width,
                high * height,
                fill=False,
                edgecolor=COLORS[name],
                linewidth=1.8,
            )
        )
    for place, (name, view) in enumerate(sample.views.items()):
        others[2 * place].imshow(displayed(view))
        lines = "\n".join(
            part for text in sample.captions[name] for part in text.split(", ")
        )
        others[2 * place + 1].text(
            0.0, 1.0, lines or "unchanged", va="top", fontsize=8.5, family="monospace"
        )
    for each in axes:
        each.axis("off")


def _plot_effects(axes, effects):
    rows = range(len(effects))
    for row, effect in zip(rows, effects, strict=True):
        color = BAD if effect.finding else GOOD
        axes.barh(row, effect.most - effect.least, 0.7, effect.least, color="#dfe3e8")
        axes.plot(effect.rate, row, "|", color="black", markersize=11)
        axes.plot(effect.share, row, "o", color=color, markersize=6)
        text = effect.finding or (
            f"{effect.share:.2f} of {effect.rate:.2f}, {effect.changeable} images"
        )
        axes.text(1.03, row, text, va="center", fontsize=8.5, color=color)
    axes.set_yticks(rows, [f"{e.view}  {e.name}" for e in effects], fontsize=8.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks((0, 0.2, 0.4, 0.6, 0.8, 1))
    axes.margins(y=0.04)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        "share of changed images among those that the operation can change: "
        "measured (dot), configured (line), range by chance (bar)",
        fontsize=9,
        loc="left",
    )
