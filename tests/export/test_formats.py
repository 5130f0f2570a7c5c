"""Exports in every format have the outputs of the model."""

import keras
import numpy as np
import pytest

from byol_keras.export import formats
from byol_keras.export.networks import NETWORKS, PARTS, network_of_run

from support.exports import IMAGES, assert_close

FEATURES = sorted(["avgpool", *(f"feature{n}" for n in range(1, 6))])


@pytest.mark.parametrize(
    ("part", "file_format"),
    [
        # Formats write both parts alike: those of the projector are slow tests.
        pytest.param(
            part, file_format, marks=() if part == "backbone" else pytest.mark.slow
        )
        for part in PARTS
        for file_format in formats.FORMATS
    ],
)
def test_export_has_the_outputs_of_the_model(file_format, part, run_folder, tmp_path):
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    network = network_of_run(run_folder, "target", part)
    path = tmp_path / formats.FORMATS[file_format][0]
    formats.write(network, file_format, path, size=24)
    limit = {"tflite": 1e-2}.get(file_format, 1e-4)
    expected = formats.outputs_of(network, IMAGES)
    assert sorted(expected) == (FEATURES if part == "backbone" else ["projection"])
    assert_close(formats.run(file_format, path, IMAGES), expected, limit)
    assert formats.check(network, file_format, path, 24) <= limit
    if file_format == "onnx":
        larger = np.random.default_rng(1).random((3, 31, 40, 3), np.float32)
        expected = formats.outputs_of(network, larger)
        assert_close(formats.run(file_format, path, larger), expected)


def test_export_of_other_weights_fails_the_check(run_folder, tmp_path):
    online, target = (network_of_run(run_folder, network) for network in NETWORKS)
    formats.write(online, "keras", tmp_path / "model.keras", size=24)
    with pytest.raises(RuntimeError, match="differs from the model by"):
        formats.check(target, "keras", tmp_path / "model.keras", 24)


# --- Mixed precision, and conversions that fail ---------------------------------------

POLICIES = ("mixed_float16", "mixed_bfloat16")


def small_backbone(policy="float32"):
    """Outputs of the policy's dtype, `[B, D]` and a map."""
    keras.config.set_dtype_policy(policy)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(2.0, -1.0)(images)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    # One layer with a policy of its own, inside of a model inside.
    head = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, dtype=policy)])
    model = keras.Model(images, {"feature5": maps, "avgpool": head(pooled)})
    keras.config.set_dtype_policy("float32")
    return model


def with_same_weights(policy):
    """A backbone of a policy, and the same network of float32."""
    mixed, single = small_backbone(policy), small_backbone()
    rng = np.random.default_rng(3)
    weights = [w + 0.3 * rng.random(w.shape) for w in mixed.get_weights()]
    mixed.set_weights(weights)
    single.set_weights(weights)
    return mixed, formats.outputs_of(single, IMAGES)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("file_format", ["onnx", "tflite", "saved_model"])
def test_network_of_mixed_precision_is_exported_in_float32(
    file_format, policy, tmp_path
):
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    mixed, expected = with_same_weights(policy)
    path = tmp_path / formats.FORMATS[file_format][0]
    worst = formats.write(mixed, file_format, path, size=24)
    assert worst <= 1e-5
    found = formats.run(file_format, path, IMAGES)
    assert {x.dtype for x in found.values()} == {np.dtype("float32")}
    assert_close(found, expected, 1e-5)
    assert [x.name for x in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("policy", POLICIES)
def test_keras_file_keeps_the_policy_of_training(policy, tmp_path):
    mixed, _ = with_same_weights(policy)
    formats.write(mixed, "keras", tmp_path / "model.keras", size=24)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[2].dtype_policy.name == policy


@pytest.mark.parametrize("policy", POLICIES)
def test_network_in_float32_has_the_same_weights_and_the_policy_stays(policy):
    mixed, expected = with_same_weights(policy)
    keras.config.set_dtype_policy(policy)
    single = formats.in_float32(mixed)
    assert keras.config.dtype_policy().name == policy
    assert_close(formats.outputs_of(single, IMAGES), expected, 1e-6)
    assert {x.compute_dtype for x in single._flatten_layers()} == {"float32"}
    assert formats.in_float32(single) is single


@keras.saving.register_keras_serializable(package="tests")
class OwnBackbone(keras.Model):
    """A subclassed model whose layers take the global policy."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(units)

    def call(self, images):
        return self.dense(self.pool(images))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_subclassed_network_of_mixed_precision_is_rebuilt_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = OwnBackbone(5)
    mixed(IMAGES)
    single = formats.in_float32(mixed)
    kernel, bias = mixed.get_weights()
    expected = IMAGES.mean(axis=(1, 2)) @ kernel + bias
    found = single(IMAGES)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-5)


def sequential(dtype):
    """A Sequential whose layers have a dtype of their own."""
    layers = [
        keras.Input((24, 24, 3)),
        keras.layers.Rescaling(2.0, dtype=dtype),
        keras.layers.GlobalAveragePooling2D(dtype=dtype),
    ]
    return keras.Sequential(layers)


@pytest.mark.parametrize("file_format", ["onnx", "tflite", "saved_model"])
@pytest.mark.parametrize(
    "make", [lambda: OwnBackbone(5), lambda: sequential("float16")]
)
def test_subclassed_and_sequential_networks_are_exported(make, file_format, tmp_path):
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    model = make()
    expected = {"avgpool": formats.in_float32(model)(IMAGES).numpy()}
    path = tmp_path / formats.FORMATS[file_format][0]
    formats.write(model, file_format, path, size=24)
    assert formats.names_of(model) == ["avgpool"]
    assert_close(formats.run(file_format, path, IMAGES), expected, 1e-5)


def test_adapted_normalization_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    images = keras.Input((None, None, 3))
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES)
    model = keras.Model(
        images, keras.layers.GlobalAveragePooling2D()(normalization(images))
    )
    path = tmp_path / "model.tflite"
    formats.write(model, "tflite", path, size=24)
    found = formats.run("tflite", path, IMAGES)["avgpool"]
    statistics = IMAGES.mean(axis=(0, 1, 2)), IMAGES.std(axis=(0, 1, 2))
    expected = (IMAGES.mean(axis=(1, 2)) - statistics[0]) / statistics[1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_export_that_differs_from_the_model_leaves_no_file(monkeypatch, tmp_path):
    other = small_backbone()
    other.set_weights([w + 1.0 for w in other.get_weights()])
    model = small_backbone()
    monkeypatch.setattr(formats, "_convert", lambda m, *rest: other.save(rest[1]))
    with pytest.raises(RuntimeError, match=r"^the keras export differs from"):
        formats.write(model, "keras", tmp_path / "model.keras", size=24)
    assert list(tmp_path.iterdir()) == []


def test_export_that_is_not_finite_fails_the_check(tmp_path):
    model = small_backbone()
    formats.write(model, "keras", tmp_path / "model.keras", size=24)
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    with pytest.raises(RuntimeError, match="differs from the model by nan"):
        formats.check(model, "keras", tmp_path / "model.keras", 24)


@pytest.mark.parametrize("fails", ["_convert", "run"])
def test_error_of_a_converter_or_runtime_is_one_line_and_leaves_no_file(
    fails, monkeypatch, tmp_path
):
    def fail(*arguments):
        raise KeyError("no operator\n  of this name")

    monkeypatch.setattr(formats, fails, fail)
    with pytest.raises(RuntimeError) as error:
        formats.write(small_backbone(), "keras", tmp_path / "model.keras", size=24)
    assert str(error.value).startswith(
        "file_format must be one that the network can be converted to (KeyError: "
    )
    assert str(error.value).endswith(". Received: 'keras'")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_stays_an_error_of_the_system(monkeypatch, tmp_path):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "_convert", fail)
    with pytest.raises(OSError, match="No space left"):
        formats.write(small_backbone(), "keras", tmp_path / "model.keras", size=24)


def test_unknown_format_is_refused_and_a_missing_extra_is_named(monkeypatch):
    with pytest.raises(ValueError, match="file_format must be one of"):
        formats.check_format("torch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"byol_keras\[onnx\]\""):
        formats.check_format("onnx")
    formats.check_format("tflite")
