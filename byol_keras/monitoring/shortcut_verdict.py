"""Puts shortcut readings into words: which fact, how much, which setting removes it."""

from collections.abc import Mapping

# A fact is named if both networks can agree on it and training uses it.
# Views of one image share a fact to the square of their correlation: 0.2 is a
# correlation of 0.45. On photographs, crops of 0.2..1 without jitter share the mean
# color to 0.7, ColorJitter(0.4, 0.4, 0.2, 0.1) to 0.2..0.3, and (0.8, 0.8, 0.8, 0.2)
# to less than 0.1.
SURVIVES = 0.2
# Training uses a fact that predicts half of the representation, or at least this much
# and clearly more than for random weights, which depend on color and layout too. Runs
# on photographs of clothes that fell below random weights in kNN raised the share of
# contrast from 0.06 to 0.20..0.27. The standard error on 256 images is about 0.03.
LARGE = 0.5
NOTICEABLE, GREW = 0.2, 0.1
# Border and thumbnail contain the mean color. They are named if they predict this much
# more than a simpler fact that is named.
GAIN = 0.1
PREFIX = "shortcut/"
_CROPS = "lower RandomResizedCrop.area, so that two crops share less of {}"
# Fact -> its words, and the settings that remove it, the simplest fact first.
FACTS = {
    "color": (
        "mean color",
        "raise ColorJitter.saturation and .hue, or the rate of Grayscale",
    ),
    "brightness": ("mean brightness", "raise ColorJitter.brightness"),
    "contrast": ("contrast", "raise ColorJitter.contrast"),
    "blur": ("sharpness", "raise the rate and the sigma of GaussianBlur"),
    "border": ("color of the border", _CROPS.format("the border")),
    "thumbnail": ("a 4x4 thumbnail", _CROPS.format("the layout")),
}


def named_facts(first: Mapping, latest: Mapping, survival: Mapping) -> list[str]:
    """The facts that the representation relies on, the simplest first.

    Args:
        first: readings of the untrained networks, by `shortcut/<fact>`.
        latest: readings now.
        survival: fact -> share that survives from view 1 to view 2.
    """
    named = []
    for fact in FACTS:
        share = latest.get(PREFIX + fact, 0.0)
        # Without a first reading, only a large share counts.
        start = first.get(PREFIX + fact, 1.0)
        is_used = share >= LARGE or share >= max(NOTICEABLE, start + GREW)
        simpler = max((latest[PREFIX + name] for name in named), default=-GAIN)
        survives = survival.get(fact, 0.0) >= SURVIVES
        if is_used and survives and share >= simpler + GAIN:
            named.append(fact)
    return named


def reading(fact: str, first: Mapping, latest: Mapping, survival: Mapping) -> str:
    """What a fact predicts, and how much of it the views share."""
    before = first.get(PREFIX + fact)
    start = "" if before is None else f" ({before:.0%} before training)"
    return (
        f"{FACTS[fact][0]} predicts {latest[PREFIX + fact]:.0%} of the representation"
        f"{start}; two views of an image share it to {survival[fact]:.2f}"
    )


def sentences(first: Mapping, latest: Mapping, survival: Mapping) -> dict[str, str]:
    """Each of the `named_facts` with its `reading` and the settings that remove it."""
    readings = first, latest, survival
    return {
        fact: f"{reading(fact, *readings)}: {FACTS[fact][1]}"
        for fact in named_facts(*readings)
    }


def strongest(latest: Mapping, survival: Mapping) -> str | None:
    """The fact with the largest product of share and survival; None if all are 0."""
    products = {
        fact: latest.get(PREFIX + fact, 0.0) * survival.get(fact, 0.0) for fact in FACTS
    }
    best = max(products, key=products.get)
    return best if products[best] > 0.0 else None
