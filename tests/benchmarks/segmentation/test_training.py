"""Training of an FCN: a function of its seed, and resumed from its state."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from byol_keras.benchmarks.segmentation.augmentation import SegmentationView
from byol_keras.benchmarks.segmentation.dataset import voc_segmentation
from byol_keras.benchmarks.segmentation.recipe import SegmentationRecipe
from byol_keras.benchmarks.segmentation.training import compiled_fcn, train_fcn
from byol_keras.optimizers import MomentumSGD

from support.scenes import make_scenes, write_vocdevkit

RECIPE = SegmentationRecipe(
    view=SegmentationView(scale=(32, 24), crop_size=16),
    optimizer_fn=functools.partial(MomentumSGD, weight_decay=5e-4),
    steps=3,
    batch_size=2,
    channels=4,
    auxiliary_channels=4,
    save_every_steps=2,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    write_vocdevkit(folder, {"2012": {"train": make_scenes(4, size=(24, 32))}})
    return voc_segmentation(folder, splits=("train",))


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, 4, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.Conv2D(4, 3, 2, padding="same")(x)
    return keras.Model(images, {"feature4": x, "feature5": y})


def trained(backbone, data, seed=0, state_path=None):
    """Weights of a model after its training."""
    model = compiled_fcn(backbone, len(data.class_names), RECIPE, seed=0)
    train_fcn(model, data, RECIPE, seed, state_path)
    return model.get_weights()


def are_equal(first, second):
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_training_is_a_function_of_the_seed(backbone, data):
    first = trained(backbone, data)
    assert are_equal(first, trained(backbone, data))
    assert not are_equal(first, trained(backbone, data, seed=1))


def test_finished_training_is_restored_without_a_step(
    backbone, data, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "state.npz"
    first = trained(backbone, data, state_path=path)
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trained"))
    assert are_equal(first, trained(backbone, data, state_path=path))
    assert "resuming at step 3 of 3" in capsys.readouterr().out
