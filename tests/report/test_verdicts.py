"""Verdicts name what was read, how much, and what to change."""

import pytest

from byol_keras.report import class_scores, verdicts
from byol_keras.report.stored_run import StoredRun

from support.runs import HEALTH

SENTENCE = "mean color predicts 61% of the representation"
READ = {
    "first": {"step": 0, "shortcut/color": 0.25, "shortcut/all": 0.5},
    "latest": {"step": 100, "shortcut/color": 0.61, "shortcut/all": 0.7},
    "survival": {"color": 0.9},
}
SCORES = {
    "images": 2000,
    "baselines": {class_scores.PIXELS: 47.0, class_scores.START: 34.1},
    "readings": [[40, 0.2, 31.4]],
}


def stored(classes=None, health=None):
    pictures = {"classes": classes} if classes else {}
    return StoredRun("run", "", [], health or {}, [], {}, pictures, False)


def test_verdict_of_the_doctor_has_causes_and_changes():
    text = " ".join(verdicts.of_health(HEALTH))
    assert text.startswith("features lose directions; watch the run (step 30). The")
    assert "Likely cause: the weight decay is too high." in text
    assert verdicts.of_health({"first": {}}) == []


def test_shortcuts_are_sentences():
    found = verdicts.of_shortcuts(READ | {"shortcuts": {"color": SENTENCE}})
    assert found == ["Mean color predicts 61% of the representation."]
    assert verdicts.of_shortcuts(READ) == verdicts.of_shortcuts({}) == []


def test_rows_have_the_facts_that_were_read():
    assert verdicts.shortcut_rows(READ) == [
        ("mean color", 0.25, 0.61, 0.9),
        ("all facts about the image together", 0.5, 0.7, None),
    ]
    (row,) = verdicts.shortcut_rows({"latest": {"shortcut/file": 0.1}})
    assert row == ("height, width and bytes of the file", None, 0.1, None)
    assert verdicts.shortcut_rows(HEALTH) == []


def test_run_below_its_baselines_does_not_learn_the_classes():
    health = READ | {"shortcuts": {"color": SENTENCE}}
    verdict, reason = verdicts.of_classes(stored(SCORES, health))
    assert verdict == (
        "Not learning what separates your classes: at step 40, kNN (k = 20) of the "
        "representation is 31.4%, below 47.0% of raw pixels and 34.1% of the backbone "
        "before training."
    )
    assert reason == "Mean color predicts 61% of the representation."


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (
            READ,
            "No simple fact clearly explains it. The strongest one: mean color predicts"
            " 61% of the representation (25% before training); two views of an image "
            "share it to 0.90.",
        ),
        ({}, "No simple fact about the images was read that explains it."),
    ],
)
def test_reason_without_a_named_shortcut_is_the_strongest_fact(health, reason):
    assert verdicts.of_classes(stored(SCORES, health))[1] == reason


@pytest.mark.parametrize(
    "scores",
    [None, SCORES | {"readings": []}, SCORES | {"readings": [[40, 0.2, 60.0]]}],
)
def test_run_that_is_not_below_or_not_scored_has_no_verdict(scores):
    assert verdicts.of_classes(stored(scores, READ)) == []


def test_rows_of_classes_are_the_baselines_then_the_readings():
    assert verdicts.class_rows(stored(SCORES)) == [
        ("raw pixels", "47.0"),
        ("the backbone before training", "34.1"),
        ("at step 40", "31.4"),
    ]
    assert verdicts.class_rows(stored()) == []
