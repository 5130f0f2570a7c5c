import pytest

from byol_keras.monitoring import shortcut_verdict
from byol_keras.monitoring.shortcut_verdict import named_facts, sentences, strongest

SURVIVAL = dict.fromkeys(shortcut_verdict.FACTS, 0.9)


def readings(**shares):
    return {f"shortcut/{fact}": share for fact, share in shares.items()}


@pytest.mark.parametrize(
    ("first", "latest", "survival", "named"),
    [
        (0.4, 0.61, 0.9, True),  # large
        (0.6, 0.55, 0.9, True),  # large, although less than at first
        (0.2, 0.31, 0.9, True),  # grew
        (0.2, 0.29, 0.9, False),  # grew too little
        (0.05, 0.18, 0.9, False),  # grew, but is small
        (0.4, 0.61, 0.15, False),  # the views do not share it
        (None, 0.45, 0.9, False),  # only a large share counts without a start
        (None, 0.55, 0.9, True),
    ],
)
def test_fact_is_named_if_it_is_used_and_survives(first, latest, survival, named):
    first = {} if first is None else readings(color=first)
    found = named_facts(first, readings(color=latest), {"color": survival})
    assert found == (["color"] if named else [])


@pytest.mark.parametrize(
    ("border", "named"), [(0.65, ["color"]), (0.75, ["color", "border"])]
)
def test_fact_that_contains_a_named_one_must_predict_clearly_more(border, named):
    latest = readings(color=0.6, border=border)
    assert named_facts({}, latest, SURVIVAL) == named


def test_sentence_has_the_fact_the_numbers_and_the_setting():
    latest = readings(color=0.61, contrast=0.1)
    assert sentences(readings(color=0.25), latest, SURVIVAL) == {
        "color": "mean color predicts 61% of the representation (25% before training); "
        "two views of an image share it to 0.90: raise ColorJitter.saturation and .hue,"
        " or the rate of Grayscale"
    }
    (alone,) = sentences({}, latest, SURVIVAL).values()
    assert "61% of the representation; two views" in alone


def test_settings_of_remedies_exist():
    import byol_keras as bk

    for words in ("GaussianBlur", "ColorJitter", "RandomResizedCrop", "Grayscale"):
        used = [remedy for _, remedy in shortcut_verdict.FACTS.values()]
        assert any(words in remedy for remedy in used)
        assert hasattr(bk, words)


def test_strongest_fact_is_large_and_survives():
    latest = readings(color=0.3, thumbnail=0.4, blur=0.9)
    survival = {"color": 0.9, "thumbnail": 0.5, "blur": 0.0}
    assert strongest(latest, survival) == "color"
    assert strongest(readings(blur=0.9), survival) is None
    assert strongest({}, {}) is None
