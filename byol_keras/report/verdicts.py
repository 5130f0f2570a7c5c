"""Verdicts of a run in words, and the tables that support them."""

from collections.abc import Mapping
from typing import NamedTuple

from byol_keras.monitoring import shortcut_verdict
from byol_keras.report.class_scores import K, better_baselines
from byol_keras.report.stored_run import StoredRun

_WORDS = {name: words for name, (words, _) in shortcut_verdict.FACTS.items()} | {
    "file": "height, width and bytes of the file",
    "all": "all facts about the image together",
}


class ShortcutRow(NamedTuple):
    """What a fact predicts of the representation, in 0..1.

    Args:
        words: str. The fact.
        first, latest: float or None. Share at the start and now.
        survival: float or None. Share of the fact that two views have in common.
    """

    words: str
    first: float | None
    latest: float | None
    survival: float | None


def of_health(health: Mapping) -> list[str]:
    """The verdict of the collapse doctor, its likely causes and its changes."""
    if "verdict" not in health:
        return []
    latest, first = health.get("latest", {}), health.get("first", {})
    means = {
        "healthy": "features are spread over many directions",
        "shrinking": "features lose directions; watch the run",
        "collapsed": "features have collapsed to few directions; nothing is learned",
    }
    verdict = health["verdict"]
    lines = [f"{means.get(verdict, verdict)} (step {latest.get('step', 0):,})."]
    rank = "monitor/projection_rankme"
    if rank in latest and rank in first:
        lines.append(
            f"The projections' effective rank is {latest[rank]:.1f}; before training "
            f"it was {first[rank]:.1f}."
        )
    link = "But" if verdict == "healthy" else "Likely cause:"
    lines += [f"{link} {cause}." for cause in health.get("causes", [])]
    changes = health.get("changes", [])
    if len(changes) > 1:
        story = ", ".join(f"{x['verdict']} at step {x['step']:,}" for x in changes)
        lines.append(f"It has changed: {story}.")
    return lines


def of_shortcuts(health: Mapping) -> list[str]:
    """The shortcuts that the representation relies on, each as a sentence."""
    return [_sentence(words) for words in health.get("shortcuts", {}).values()]


def shortcut_rows(health: Mapping) -> list[ShortcutRow]:
    """A row for each fact that was read, the simplest first."""
    first, latest = health.get("first", {}), health.get("latest", {})
    survival = health.get("survival", {})
    rows = []
    for name, words in _WORDS.items():
        key = shortcut_verdict.PREFIX + name
        shares = first.get(key), latest.get(key)
        if shares != (None, None):
            rows.append(ShortcutRow(words, *shares, survival.get(name)))
    return rows


def of_classes(run: StoredRun) -> list[str]:
    """The verdict on a run that is below a baseline of its classes, and why.

    Returns:
        list of sentences; empty for a run that is not below one, or not scored yet.
    """
    scores = run.pictures.get("classes")
    better = better_baselines(scores) if scores else {}
    if not better:
        return []
    step, _, now = scores["readings"][-1]
    others = " and ".join(f"{score:.1f}% of {name}" for name, score in better.items())
    verdict = (
        f"Not learning what separates your classes: at step {step:,}, kNN (k = {K}) of "
        f"the representation is {now:.1f}%, below {others}."
    )
    return [verdict, _explanation(run.health)]


def _explanation(health):
    """The shortcuts that may explain why the classes are not separated."""
    named = health.get("shortcuts", {})
    if named:
        return " ".join(_sentence(words) for words in named.values())
    latest, survival = health.get("latest", {}), health.get("survival", {})
    fact = shortcut_verdict.strongest(latest, survival)
    if fact is None:
        return "No simple fact about the images was read that explains it."
    words = shortcut_verdict.reading(fact, health["first"], latest, survival)
    return f"No simple fact clearly explains it. The strongest one: {words}."


def class_rows(run: StoredRun) -> list[tuple[str, str]]:
    """kNN of the baselines, then of each reading: name and percent."""
    scores = run.pictures.get("classes")
    if not scores:
        return []
    found = [(name, f"{score:.1f}") for name, score in scores["baselines"].items()]
    return found + [
        (f"at step {step:,}", f"{score:.1f}") for step, _, score in scores["readings"]
    ]


def _sentence(words):
    return f"{words[0].upper()}{words[1:]}."
