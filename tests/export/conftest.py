"""A run of two networks with different weights, and its folder."""

import keras
import numpy as np
import pytest

from byol_keras import BYOL, resnet18
from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.checkpoints.variables import by_position
from byol_keras.export import export_backbone


def _randomize(model, seed):
    rng = np.random.default_rng(seed)
    weights = [w + 0.1 * rng.random(w.shape) for w in model.get_weights()]
    model.set_weights(weights)


@pytest.fixture(scope="session")
def model():
    """A `BYOL` model whose online and target weights differ."""
    found = BYOL(resnet18(width=0.125, stem="small"), 24, 16)
    _randomize(found.online, 1)
    _randomize(found.target, 2)
    return found


@pytest.fixture(scope="session")
def run_folder(model, tmp_path_factory):
    """A run folder with the export and a checkpoint of `model`."""
    folder = tmp_path_factory.mktemp("run")
    export_backbone(model.online.backbone, folder / "export")
    parts = {"online": model.online.variables, "target": model.target.variables}
    variables = by_position(parts)
    arrays = {name: keras.ops.convert_to_numpy(v) for name, v in variables.items()}
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(7, arrays, {})
    checkpoints.close()
    return folder
