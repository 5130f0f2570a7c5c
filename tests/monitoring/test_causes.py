import keras
import pytest

from byol_keras import BYOL
from byol_keras.monitoring.causes import likely_causes, monitored

FIRST = {"step": 0, "monitor/projection_std": 0.8, "monitor/weight_norm": 4.0}


def tiny_model(**arguments):
    images = keras.Input((2, 2, 1))
    x = keras.layers.Dense(5)(keras.layers.Flatten()(images))
    model = BYOL(keras.Model(images, {"avgpool": x}), 8, 4, **arguments)
    model.build((None, 2, 2, 1))
    return model


def predictor():
    return keras.Sequential([keras.layers.Dense(4)])


def no_predictor():
    return keras.Sequential([keras.layers.Activation("linear")])


ORDINARY = {"tau": 0.99, "monitor/weight_norm": 4.1, "monitor/weight_distance": 0.1}


@pytest.mark.parametrize(
    ("parts", "changes", "cause"),
    [
        ({}, {}, "none of the usual ones"),
        ({"predictor": no_predictor()}, {}, "the predictor has no weights"),
        ({}, {"tau": 0.0}, "the target is the online network itself: tau is 0"),
        ({}, {"tau": 0.3}, "the target is the online network itself: tau is 0.3"),
        ({}, {"tau": 1.0}, "the target stands still: tau is 1"),
        ({}, {"tau": None}, "the target stands still: there is no TargetEMA"),
        (
            {"projector": predictor(), "predictor": predictor()},
            {},
            "neither projector nor predictor normalises",
        ),
        (
            {},
            {"monitor/weight_norm": 6.0},
            "weights have grown 1.5 times: the learning",
        ),
        ({}, {"monitor/weight_norm": None}, "weights have grown inf times"),
        ({}, {"monitor/weight_norm": 2.0}, "shrunk to 50%: the weight decay"),
        ({}, {"skipped_steps": 1}, "steps were not finite"),
    ],
)
def test_likely_cause_is_named(parts, changes, cause):
    latest = {k: v for k, v in (ORDINARY | changes).items() if v is not None}
    (found,) = likely_causes(tiny_model(**parts), FIRST, latest, "shrinking")
    assert cause in found
    # Only what keeps a spread-out representation from learning is told of it.
    causes = likely_causes(tiny_model(**parts), FIRST, latest, "healthy")
    assert causes == ([found] if "the target" in cause else [])


def test_readings_of_the_representation_are_those_of_the_doctor():
    logs = {"loss": 1.0, "monitor/std": 0.5, "shortcut/color": 0.25, "knn/top1": 3.0}
    assert monitored(logs) == {"monitor/std": 0.5, "shortcut/color": 0.25}
