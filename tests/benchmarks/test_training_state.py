"""A saved training state is restored."""

import keras
import numpy as np
import pytest
from keras import layers

from byol_keras.benchmarks.training_state import SaveState, TrainingState


def compiled(units=2):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dropout(0.5), layers.Dense(units)]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, steps, *callbacks):
    x = np.ones((steps, 3), np.float32)
    y = np.ones((steps, 2), np.float32)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[*callbacks])


def values(model):
    variables = (*model.variables, *model.optimizer.variables)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_restored_model_continues_like_an_uninterrupted_one(tmp_path):
    keras.utils.set_random_seed(0)
    model = compiled()
    fit(model, 3)
    TrainingState(tmp_path / "new" / "state.npz", model).save(3)
    fit(model, 2)
    other = compiled()
    assert TrainingState(tmp_path / "new" / "state.npz", other).restore() == 3
    fit(other, 2)
    for found, expected in zip(values(other), values(model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_a_file_nothing_is_restored(tmp_path):
    model = compiled()
    before = values(model)
    assert TrainingState(tmp_path / "state.npz", model).restore() == 0
    for found, expected in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_state_of_another_model_is_one_line(tmp_path):
    path = tmp_path / "state.npz"
    TrainingState(path, compiled(units=2)).save(1)
    with pytest.raises(ValueError, match=r"^output_dir must hold.*Received: .*state"):
        TrainingState(path, compiled(units=3)).restore()


def test_state_is_saved_every_nth_step_and_at_the_end(tmp_path, monkeypatch):
    steps = []
    model = compiled()
    state = TrainingState(tmp_path / "state.npz", model)
    monkeypatch.setattr(state, "save", steps.append)
    fit(model, 5, SaveState(state, first_step=10, every_steps=2))
    assert steps == [12, 14, 15]
