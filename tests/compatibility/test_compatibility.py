"""What an earlier version has left still loads, resumes and counts; see `record.py`."""

import json

import gin
import keras
import numpy as np
import pytest

import byol_keras  # noqa: F401, registers what saved models name
from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.checkpoints.variables import arrays_of, load_arrays
from byol_keras.export import load_backbone
from compatibility import record

RECIPES = json.loads((record.DATA / "recipes.json").read_text())


@pytest.fixture(scope="module")
def outputs():
    with np.load(record.DATA / "outputs.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def recipes():
    return record.recipes()


def test_every_recipe_is_recorded(recipes):
    assert set(recipes) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_run_of_an_earlier_version_resumes(recipes, name):
    assert recipes[name]["fingerprint"] == RECIPES[name]["fingerprint"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_uses_the_recorded_values(recipes, name):
    found, recorded = (
        set(texts[name]["operative_config"].splitlines())
        for texts in (recipes, RECIPES)
    )
    assert found == recorded


def test_stored_score_of_an_earlier_version_counts():
    recorded = json.loads((record.DATA / "identities.json").read_text())
    assert record.identities(record.DATA / "export") == recorded


def test_checkpoint_of_an_earlier_version_loads():
    found = CheckpointFolder(record.DATA / "checkpoints").newest()
    model = record.model()
    load_arrays(model, found.arrays, record.DATA)
    restored = arrays_of(model)
    assert found.step == 3
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(restored[name], array)


def test_whole_model_of_an_earlier_version_loads(outputs):
    model = keras.saving.load_model(record.DATA / "byol.keras")
    np.testing.assert_allclose(
        model(outputs["images"]), outputs["predictions"], atol=1e-5
    )
    assert model.optimizer.get_config()["name"] == "lars"


@pytest.mark.parametrize("file", ["backbone.keras", "saved_model"])
def test_export_of_an_earlier_version_loads(outputs, file):
    backbone = load_backbone(record.DATA / "export" / file)
    features = backbone(outputs["images"])["avgpool"]
    np.testing.assert_allclose(features, outputs["avgpool"], atol=1e-5)


def test_selectors_are_names_and_no_addresses():
    registered = gin.config._REGISTRY.items()
    ours = [name for name, _ in registered if name.startswith("byol_keras.")]
    assert [name for name in ours if name.count(".") > 1] == []
