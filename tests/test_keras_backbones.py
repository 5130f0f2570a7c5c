"""Networks of keras.applications as backbones."""

import keras
import numpy as np
import pytest

from byol_keras import BYOL, TargetEMA
from byol_keras.export import export_backbone, load_backbone
from byol_keras.keras_backbones import keras_application
from byol_keras.networks import batch_norms, fresh_copy

from support.images import noise

# One network for each range that keras.applications scales images to: -1..1, BGR minus
# means, and 0..255, which the network itself scales.
SCALINGS = {
    "MobileNetV2": keras.applications.mobilenet_v2,
    "ResNet50": keras.applications.resnet,
    "MobileNetV3Small": keras.applications.mobilenet_v3,
}
SMALL = "MobileNetV3Small"


@pytest.fixture(scope="module")
def small():
    return keras_application(name=SMALL)


@pytest.mark.parametrize("name", SCALINGS)
def test_features_of_loaded_weights_are_those_of_keras(name, tmp_path):
    network = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(None, None, 3), pooling="avg"
    )
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        if len(variable.shape) == 1:  # zeros hide what the images are
            variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    path = str(tmp_path / "network.weights.h5")
    network.save_weights(path)
    backbone = keras_application(name=name, weights=path)
    images = noise(2, 64, 64, 3)
    expected = network(SCALINGS[name].preprocess_input(255.0 * images)).numpy()
    found = backbone(images)["avgpool"].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert backbone.has_trained_weights


@pytest.mark.parametrize(
    ("name", "features"), [(SMALL, (1, 2, 3, 4, 5)), ("ConvNeXtTiny", (2, 3, 4, 5))]
)
def test_feature_n_has_stride_2_to_the_n(name, features):
    backbone = keras_application(name=name)
    outputs = backbone.compute_output_spec(keras.KerasTensor((1, 64, 96, 3)))
    avgpool = outputs.pop("avgpool")
    assert [*outputs] == [f"feature{n}" for n in features]
    for n, output in zip(features, outputs.values(), strict=True):
        assert output.shape[1:3] == (64 // 2**n, 96 // 2**n)
    assert avgpool.shape == (1, outputs["feature5"].shape[-1])
    assert not backbone.has_trained_weights


@pytest.mark.parametrize("name", ["MobileNetV2", "ConvNeXtTiny"])
def test_grey_images_are_scaled_to_minus_one_to_one(name):
    backbone = keras_application(channels=1, name=name)
    scaled = keras.Model(backbone.input, backbone.get_layer("scaling").output)
    images = np.float32([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(np.ravel(scaled(images)), [-1.0, 0.0, 1.0])


def test_batch_norm_is_synchronized_and_its_statistics_follow_short_runs(small):
    copy = fresh_copy(small)
    for model in (small, copy):
        found = [(x.synchronized, x.momentum) for x in batch_norms(model)]
        assert found == 34 * [(True, 0.9)]


def test_exports_load_with_equal_features(small, tmp_path):
    export_backbone(small, tmp_path)
    images = noise(2, 64, 64, 3)
    expected = small(images)
    for path in (tmp_path / "backbone.keras", tmp_path / "saved_model"):
        found = load_backbone(path)(images)
        for key, value in expected.items():
            # Features of random weights are as small as 1e-10.
            limit = 1e-4 * np.abs(value).max()
            np.testing.assert_allclose(found[key], value, atol=limit)


def test_outputs_of_a_run_in_16_bits_are_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = keras_application(name=SMALL)
    finally:
        keras.config.set_dtype_policy(policy)
    assert {output.dtype for output in backbone.output.values()} == {"float32"}


@pytest.mark.slow
def test_byol_trains_it(small):
    images = noise(4, 32, 32, 3)
    model = BYOL(small, hidden_units=16, output_units=8)
    model.compile(keras.optimizers.AdamW(1e-3))
    before = [variable.numpy() for variable in model.target.trainable_variables]
    ema = TargetEMA(base_tau=0.5, total_steps=2)
    model.fit(images, images[::-1], batch_size=4, callbacks=[ema], verbose=0)
    after = model.target.trainable_variables
    changed = [
        not np.array_equal(x, y.numpy()) for x, y in zip(before, after, strict=True)
    ]
    assert np.mean(changed) > 0.9


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*Received: 'ResNet5'"):
        keras_application(name="ResNet5")


def test_weights_that_cannot_be_loaded_are_refused_in_one_line(tmp_path):
    missing = str(tmp_path / "missing.weights.h5")
    with pytest.raises(ValueError, match=r"^weights must be None.*Received: ") as found:
        keras_application(name=SMALL, weights=missing)
    assert "\n" not in str(found.value)
