import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA
from byol_keras.checkpoints import Checkpoints, SaveEachEpoch

STEPS_PER_EPOCH = 2
EPOCH_ENDS = [2, 4]


def small_byol(units=4, optimizer_fn=None):
    backbone = keras.Sequential([keras.Input((3,)), layers.Dense(units)])
    model = BYOL(backbone, 8, 3)
    optimizer = optimizer_fn() if optimizer_fn else keras.optimizers.Adam(schedule())
    model.compile(optimizer, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def schedule():
    return keras.optimizers.schedules.CosineDecay(0.01, decay_steps=4)


def dataset(first_step=0):
    views = np.random.default_rng(0).normal(size=(2, 32, 3)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices(tuple(views)).batch(8)
    return batches.skip(first_step)


def train(model, folder, first_step=0, callbacks=()):
    """Trains to the end of epoch 2, with a checkpoint at the end of each epoch."""
    model.fit(
        dataset(first_step),
        initial_epoch=first_step // STEPS_PER_EPOCH,
        epochs=2,
        steps_per_epoch=STEPS_PER_EPOCH,
        shuffle=False,
        verbose=0,
        callbacks=[
            TargetEMA(0.9, total_steps=4),
            *callbacks,
            SaveEachEpoch(Checkpoints(folder, model), EPOCH_ENDS),
        ],
    )


def state(model):
    variables = [
        *model.online.variables,
        *model.target.variables,
        *model.predictor.variables,
        *model.optimizer.variables,
    ]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def assert_identical(states, expected):
    for value, other in zip(states, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A trained model and its checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("unbroken")
    keras.utils.set_random_seed(0)
    model = small_byol()
    train(model, folder)
    return model, folder


def test_every_epoch_leaves_a_checkpoint_of_its_last_step(unbroken):
    assert names(unbroken[1]) == ["step_000000002.npz", "step_000000004.npz"]


def test_restored_model_has_identical_weights_optimizer_and_step(unbroken):
    expected, folder = unbroken
    model = small_byol()
    assert Checkpoints(folder, model).restore() == 4
    assert_identical(state(model), state(expected))
    assert model.optimizer.iterations.numpy() == 4


def test_resumed_training_equals_unbroken_training_bit_for_bit(unbroken, tmp_path):
    expected, folder = unbroken
    (tmp_path / "step_000000002.npz").write_bytes(
        (folder / "step_000000002.npz").read_bytes()
    )
    keras.utils.set_random_seed(1)
    model = small_byol()
    step = Checkpoints(tmp_path, model).restore()
    assert step == 2
    before = state(model)
    train(model, tmp_path, first_step=step)
    assert_identical(state(model), state(expected))
    assert np.abs(state(model)[0] - before[0]).max() > 1e-3


def test_epoch_that_is_stopped_half_way_leaves_no_checkpoint(tmp_path):
    class StopInSecondEpoch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.model.optimizer.iterations.numpy() == 3

    model = small_byol()
    train(model, tmp_path, callbacks=[StopInSecondEpoch()])
    assert model.optimizer.iterations.numpy() == 3
    assert names(tmp_path) == ["step_000000002.npz"]


def test_folder_without_checkpoints_restores_step_0_and_changes_nothing(tmp_path):
    model = small_byol()
    before = state(model)
    assert Checkpoints(tmp_path / "missing", model).restore() == 0
    assert Checkpoints(tmp_path, model).restore() == 0
    assert_identical(state(model), before)


def test_keep_leaves_the_newest_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path, small_byol(), keep=2)
    for step in (1, 9, 10, 100):
        checkpoints.save(step)
    assert names(tmp_path) == ["step_000000010.npz", "step_000000100.npz"]
    assert checkpoints.restore() == 100


def test_keep_0_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^keep must be a positive int\. .* 0$"):
        Checkpoints(tmp_path, model=None, keep=0)


@pytest.mark.parametrize(
    "arguments",
    [{"units": 5}, {"optimizer_fn": lambda: keras.optimizers.SGD(0.1)}],
    ids=["another_width", "another_optimizer"],
)
def test_checkpoint_of_another_model_is_refused_and_changes_nothing(
    unbroken, arguments
):
    model = small_byol(**arguments)
    before = state(model)
    with pytest.raises(ValueError, match=r"^--model_dir .* Received: .*") as error:
        Checkpoints(unbroken[1], model).restore()
    assert len(str(error.value).splitlines()) == 1
    assert_identical(state(model), before)


def test_save_that_is_cut_short_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    model = small_byol()
    checkpoints = Checkpoints(tmp_path, model)
    checkpoints.save(3)
    expected = state(model)

    def cut_short(file, **arrays):
        file.write(b"half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("numpy.savez", cut_short)
        checkpoints.save(6)
    assert names(tmp_path) == ["step_000000003.npz", "step_000000006.tmp"]
    restored = small_byol()
    assert Checkpoints(tmp_path, restored).restore() == 3
    assert_identical(state(restored), expected)


def test_loss_scale_is_part_of_a_checkpoint(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model, restored = small_byol(), small_byol()
    model.optimizer.dynamic_scale.assign(8.0)
    Checkpoints(tmp_path, model).save(1)
    Checkpoints(tmp_path, restored).restore()
    assert restored.optimizer.dynamic_scale.numpy() == 8.0
    assert_identical(state(restored), state(model))


def test_restore_reaches_every_replica(tmp_path):
    saved = small_byol()
    Checkpoints(tmp_path, saved).save(1)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = small_byol()
    Checkpoints(tmp_path, model).restore()
    for variable, expected in zip(
        model.online.variables, saved.online.variables, strict=True
    ):
        assert len(variable.value.values) == 2
        for replica in variable.value.values:
            np.testing.assert_array_equal(replica, expected)
