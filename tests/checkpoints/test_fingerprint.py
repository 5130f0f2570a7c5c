import gin
import pytest

from byol_keras.checkpoints.fingerprint import changes, fingerprint
from byol_keras.config import operative

BINDINGS = {
    "WIDTH": "0.5",
    "train.epochs": "3",
    "train.seed": "0",
    "train.log_every_steps": "20",
    "train.jit_compile": "False",
    "train.callbacks": "[@BenchmarkEachEpochs()]",
    "train.backbone_fn": "@resnet18",
    "train.dataset_fn": "@image_folder",
    "train.views_fn": "@TwoViews",
    "resnet18.width": "%WIDTH",
    "image_folder.path": "'photos'",
    "image_folder.channels": "3",
    "TwoViews.view1": "[@jitter/RandomApply(), @keras_cv.layers.RandomFlip()]",
    "jitter/RandomApply.layer": "@ColorJitter()",
    "jitter/RandomApply.rate": "0.8",
    "jitter/ColorJitter.hue": "0.1",
    "other/ColorJitter.hue": "0.9",
    "RandomFlip.rate": "0.5",
    "BenchmarkEachEpochs.benchmarks": "[@knn]",
    "knn.train_data": "@train/image_folder()",
    "train/image_folder.channels": "1",
    "Checkpoints.keep": "2",
}


def lines_after(name, value):
    """What `changes` says when one binding has another value."""
    new = {**BINDINGS, name: value}
    return changes(fingerprint(BINDINGS), fingerprint(new))


CHANGES_THE_RESULT = {
    "train.epochs": "4",
    "train.seed": "1",
    "train.backbone_fn": "@resnet50",
    "image_folder.channels": "1",
    "TwoViews.view1": "[]",
    "jitter/RandomApply.rate": "0.7",
    "jitter/ColorJitter.hue": "0.2",
    "RandomFlip.rate": "0.4",
}


@pytest.mark.parametrize("name", CHANGES_THE_RESULT)
def test_binding_that_changes_the_result_is_shown_with_both_values(name):
    value = CHANGES_THE_RESULT[name]
    shown = "\n".join(lines_after(name, value))
    assert f"{name}: {BINDINGS[name]} in the checkpoint, {value} now" in shown


NO_CHANGE = (
    "train.log_every_steps",
    "train.jit_compile",
    "train.callbacks",
    "image_folder.path",
    "other/ColorJitter.hue",
    "BenchmarkEachEpochs.benchmarks",
    "knn.train_data",
    "train/image_folder.channels",
    "Checkpoints.keep",
)


@pytest.mark.parametrize("name", NO_CHANGE)
def test_binding_that_does_not_change_the_result_is_no_part(name):
    assert lines_after(name, "'another'") == []


def test_macro_is_compared_by_its_value():
    assert lines_after("WIDTH", "1.0") == [
        "resnet18.width: 0.5 in the checkpoint, 1.0 now"
    ]


def test_other_length_is_explained():
    (line,) = lines_after("train.epochs", "4")
    assert "learning rate and tau depend on the length" in line


def test_data_of_another_digest_are_a_change_wherever_they_lie():
    old = fingerprint(BINDINGS, digest="abc", num_examples=10)
    assert changes(old, fingerprint(BINDINGS, digest="abc", num_examples=10)) == []
    digest, number = changes(old, fingerprint(BINDINGS, digest="abd", num_examples=11))
    assert digest.startswith("data.digest: abc in the checkpoint, abd now (of names")
    assert number == "data.num_examples: 10 in the checkpoint, 11 now"


def test_binding_that_is_new_or_gone_is_a_change():
    new = {name: value for name, value in BINDINGS.items() if name != "train.seed"}
    (gone,) = changes(fingerprint(BINDINGS), fingerprint(new))
    assert gone == "train.seed: 0 in the checkpoint, not there now"


@gin.configurable(module="test_fingerprint")
def outer(inner_fn, size=1):
    return inner_fn(), size


@gin.register(module="test_fingerprint")
def inner(depth=2, name="[@inner]"):
    return depth, name


def test_operative_bindings_hold_defaults_scopes_and_macros():
    gin.parse_config(
        "DEPTH = 5\nouter.inner_fn = @deep/inner\ndeep/inner.depth = %DEPTH"
    )
    outer()
    found = operative.operative_bindings()
    assert found["DEPTH"] == "5"
    assert found["deep/inner.depth"] == "%DEPTH"
    assert found["deep/inner.name"] == "'[@inner]'"
    assert found["outer.size"] == "1"
