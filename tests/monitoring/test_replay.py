import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import BYOL, data
from byol_keras.data.image_data import ImageData
from byol_keras.monitoring.replay import describe_batch, replay_step

VIEWS = tuple(np.random.default_rng(0).random((2, 6, 2, 2, 1), np.float32))


@keras.saving.register_keras_serializable(package="tests")
class Reciprocal(keras.layers.Layer):
    """Infinite, without a trace in the weights, where a feature is 0."""

    def call(self, x):
        return 1.0 / x


@keras.saving.register_keras_serializable(package="tests")
class SquareRoot(keras.layers.Layer):
    """Finite at 0, where its gradient is not."""

    def call(self, x):
        return tf.sqrt(tf.nn.relu(x))


def tiny_model(*layers, **arguments):
    keras.utils.set_random_seed(0)
    images = keras.Input((2, 2, 1))
    x = keras.layers.Flatten(name="flat")(images)
    x = keras.layers.Dense(4, name="features")(x)
    for layer in layers:
        x = layer(x)
    model = BYOL(keras.Model(images, {"avgpool": x}), 8, 4, **arguments)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    return model


def weights(model):
    return [keras.ops.convert_to_numpy(w) for w in model.trainable_variables]


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_replay_has_loss_and_gradients_of_the_step_and_moves_no_weight(
    accumulation_steps,
):
    model = tiny_model(accumulation_steps=accumulation_steps)
    before = weights(model)
    replay = replay_step(model, VIEWS)
    assert replay.first_nonfinite is None
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)

    logs = model.train_step(VIEWS)
    assert replay.loss == pytest.approx(float(logs["loss"]), rel=1e-5)
    # Plain gradient descent moves a weight by rate times gradient.
    pairs = zip(before, weights(model), strict=True)
    moved = [np.linalg.norm(a - b) / 0.1 for a, b in pairs]
    assert list(replay.gradient_norms.values()) == pytest.approx(moved, rel=1e-3)
    names = list(replay.gradient_norms)
    assert names[0] == "online.backbone/features/kernel"
    assert names[-1] == "predictor/output/kernel"


def test_loss_scaling_is_undone():
    keras.config.set_dtype_policy("mixed_float16")
    scaled = tiny_model()
    norms = []
    for scale in (1.0, 1024.0):
        scaled.optimizer.dynamic_scale.assign(scale)
        norms.append(replay_step(scaled, VIEWS).gradient_norms)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def bad_pixel():
    view1, view2 = (view.copy() for view in VIEWS)
    view2[3, 0, 1] = np.nan
    return tiny_model(), (view1, view2)


def bad_weight():
    model = tiny_model()
    model.predictor.get_layer("hidden").bias.assign([np.inf] * 8)
    return model, VIEWS


def bad_layer():
    model = tiny_model(Reciprocal(name="reciprocal"), keras.layers.Dense(3))
    model.target.backbone.get_layer("features").kernel.assign(np.zeros((4, 4)))
    return model, VIEWS


def bad_gradient():
    model = tiny_model(SquareRoot(name="root"))
    bias = -100.0 * np.array([1, 0, 0, 0])  # the first feature is 0 for every image
    model.online.backbone.get_layer("features").bias.assign(bias)
    return model, VIEWS


def bad_loss():
    model = tiny_model()
    model.loss_fn = lambda y_true, y_pred: tf.reduce_sum(y_pred) * np.inf
    return model, VIEWS


@pytest.mark.parametrize(
    ("case", "where"),
    [
        (bad_pixel, "views"),
        (bad_weight, "predictor/hidden/bias"),
        (bad_layer, "target.backbone/reciprocal"),
        (bad_loss, "loss"),
        (bad_gradient, "gradient of online.backbone/features/bias"),
    ],
)
def test_first_nonfinite_value_is_found(case, where):
    model, views = case()
    replay = replay_step(model, views)
    assert replay.first_nonfinite == where
    assert str(replay).endswith(f"first non-finite value: {where}")
    assert model.guard is None
    # Layers compute as before.
    assert "call" not in vars(model.online.backbone.get_layer("features"))


def images(count):
    rng = np.random.default_rng(0)
    return data.arrays(rng.integers(0, 256, (count, 2, 2, 1), np.uint8))


def test_batch_is_described_by_the_places_of_its_images():
    source = images(10)
    found = describe_batch(source, step=4, seed=3, batch_size=4, pass_length=10)
    assert found["seed"] == 3
    assert found["first_image"] == 16
    assert found["paths"] is None
    stream = source.stream(3, start=16, pass_length=10).take(4)
    stored = [x["image"].numpy() for x in source.ordered()]
    for place, element in zip(found["images"], stream, strict=True):
        np.testing.assert_array_equal(stored[place], element["image"])


def test_paths_of_image_files_are_named():
    source = images(4)
    named = ImageData(
        **{f: getattr(source, f) for f in source.__dataclass_fields__}
        | {"names": ("a.png", "b.png", "c.png", "d.png")}
    )
    found = describe_batch(named, step=0, seed=0, batch_size=4, pass_length=4)
    assert found["paths"] == [named.names[place] for place in found["images"]]
    assert sorted(found["paths"]) == list(named.names)


def test_places_in_record_files_are_not_known():
    records = ImageData("records", 100, 1, (2, 2), None, source=object())
    found = describe_batch(records, step=2, seed=1, batch_size=8, pass_length=100)
    assert found == {"seed": 1, "first_image": 16, "images": None, "paths": None}
