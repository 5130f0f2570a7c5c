"""The fingerprint has what determines the result of a run, and nothing else."""

import gin
import pytest

from byol_keras.checkpoints import fingerprint as module
from byol_keras.checkpoints.fingerprint import changes, fingerprint


@gin.register(module="test_fingerprint")
def pretend(
    backbone_fn, dataset_fn, views_fn, epochs, seed=0, jit_compile=False, callbacks=()
):
    """Stands for `train`: calls what gin binds."""
    for function in (backbone_fn, dataset_fn, views_fn, *callbacks):
        function()


@gin.register(module="test_fingerprint")
def network(width, name="[@network]"):
    pass


@gin.register(module="test_fingerprint")
def photos(path, channels=3):
    pass


@gin.register(module="test_fingerprint")
def two_views(layers):
    pass


@gin.register(module="test_fingerprint")
def apply(layer, rate=0.5):
    pass


@gin.register(module="test_fingerprint")
def jitter(hue=0.2):
    pass


@gin.register(module="test_fingerprint")
def watch(data):
    pass


BINDINGS = {
    "WIDTH": "%HALF",
    "HALF": "0.5",
    "LAYERS": "[@often/apply(), @jitter()]",
    "pretend.backbone_fn": "@network",
    "pretend.callbacks": "[@watch]",
    "pretend.dataset_fn": "@photos",
    "pretend.epochs": "3",
    "pretend.jit_compile": "False",
    "pretend.views_fn": "@two_views",
    "network.width": "%WIDTH",
    "photos.path": "'photos'",
    "two_views.layers": "%LAYERS",
    "often/apply.layer": "@jitter()",
    "often/apply.rate": "0.8",
    "often/jitter.hue": "0.1",
    "test/photos.channels": "1",
    "watch.data": "@test/photos()",
    "test/photos.path": "'photos'",
}


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.setattr(module, "RUN", "test_fingerprint.pretend")
    gin.clear_config()


def of(bindings, **facts):
    """The fingerprint of a run with these bindings."""
    gin.clear_config()
    gin.parse_config([f"{name} = {value}" for name, value in bindings.items()])
    gin.get_configurable(pretend)()
    return fingerprint(**facts)


def test_fingerprint_has_values_with_defaults_scopes_and_resolved_macros():
    assert of(BINDINGS, num_examples=10) == {
        "data.num_examples": "10",
        "pretend.backbone_fn": "@network",
        "pretend.dataset_fn": "@photos",
        "pretend.epochs": "3",
        "pretend.seed": "0",
        "pretend.views_fn": "@two_views",
        "network.width": "0.5",
        "network.name": "'[@network]'",
        "photos.channels": "3",
        "two_views.layers": "[@often/apply(), @jitter()]",
        "often/apply.layer": "@jitter()",
        "often/apply.rate": "0.8",
        "often/jitter.hue": "0.1",
        # Gin evaluates a macro in a scope of its name.
        "LAYERS/jitter.hue": "0.2",
    }


CHANGES_THE_RESULT = {
    "pretend.epochs": ("pretend.epochs", "4"),
    "pretend.seed": ("pretend.seed", "1"),
    "HALF": ("network.width", "0.25"),
    "photos.channels": ("photos.channels", "1"),
    "two_views.layers": ("two_views.layers", "[@jitter()]"),
    "often/apply.rate": ("often/apply.rate", "0.7"),
    "often/jitter.hue": ("often/jitter.hue", "0.3"),
    "jitter.hue": ("LAYERS/jitter.hue", "0.3"),
}


@pytest.mark.parametrize("name", CHANGES_THE_RESULT)
def test_binding_that_changes_the_result_is_shown_with_both_values(name):
    shown, value = CHANGES_THE_RESULT[name]
    old, new = of(BINDINGS), of({**BINDINGS, name: value})
    line = f"{shown}: {old[shown]} in the checkpoint, {value} now"
    assert line in changes(old, new)


NO_CHANGE = {
    "pretend.jit_compile": "True",
    "pretend.callbacks": "[]",
    "photos.path": "'another'",
    "watch.data": "'another'",
    "test/photos.channels": "4",
}


@pytest.mark.parametrize("name", NO_CHANGE)
def test_binding_that_does_not_change_the_result_is_no_part(name):
    new = {**BINDINGS, name: NO_CHANGE[name]}
    assert changes(of(BINDINGS), of(new)) == []


def test_parameter_that_was_added_counts_where_it_is_not_at_its_default(monkeypatch):
    monkeypatch.setattr(module, "ADDED", {"photos.channels": "3", "apply.rate": "0.5"})
    earlier = of(BINDINGS)
    assert "photos.channels" not in earlier
    assert earlier["often/apply.rate"] == "0.8"
    assert changes(earlier, of({**BINDINGS, "often/apply.rate": "0.5"})) == [
        "often/apply.rate: 0.8 in the checkpoint, not there now"
    ]
    assert changes(earlier, of({**BINDINGS, "photos.channels": "1"})) == [
        "photos.channels: not there in the checkpoint, 1 now"
    ]


def test_another_length_is_explained():
    (line,) = changes({"train.epochs": "3"}, {"train.epochs": "4"})
    assert "learning rate and tau depend on the length" in line


def test_data_with_another_digest_are_a_change():
    old = of(BINDINGS, digest="abc", num_examples=10)
    assert changes(old, of(BINDINGS, digest="abc", num_examples=10)) == []
    digest, number = changes(old, of(BINDINGS, digest="abd", num_examples=11))
    assert digest.startswith("data.digest: abc in the checkpoint, abd now (of names")
    assert number == "data.num_examples: 10 in the checkpoint, 11 now"


def test_binding_that_is_new_or_gone_is_a_change():
    assert changes({"train.seed": "0"}, {}) == [
        "train.seed: 0 in the checkpoint, not there now"
    ]
    assert changes({}, {"train.seed": "0"}) == [
        "train.seed: not there in the checkpoint, 0 now"
    ]
