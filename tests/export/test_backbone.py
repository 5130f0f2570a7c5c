"""A reloaded backbone computes what the exported one computes."""

import os
import random
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.backbones import resnet18
from byol_keras.byol import BYOL
from byol_keras.export import (
    export_backbone,
    load_backbone,
    pretrained_backbone,
    reinitialized,
)

FEATURES = ["avgpool", "feature1", "feature2", "feature3", "feature4", "feature5"]

# A process that has Keras and TensorFlow but not this package.
ELSEWHERE = """
import sys
sys.modules["byol_keras"] = None
import keras, numpy as np, tensorflow as tf
try:
    import byol_keras
    raise SystemExit("byol_keras can be imported here")
except ImportError:
    pass
images = np.load("images.npy")
from_keras = keras.saving.load_model("export/backbone.keras")(images / np.float32(255))
loaded = tf.saved_model.load("export/saved_model")
from_float = loaded.serve(tf.constant(images / np.float32(255)))
from_uint8 = loaded.serve(tf.constant(images))
for name, outputs in [
    ("keras", from_keras), ("float", from_float), ("uint8", from_uint8)
]:
    np.savez(name + ".npz", **{key: value.numpy() for key, value in outputs.items()})
"""


class PlainBackbone(keras.Model):
    """A model of a user: subclassed, and its output is a tensor `[B, 3]`."""

    def __init__(self):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(3)
        self.fails = False

    def call(self, images):
        if self.fails:
            raise RuntimeError("cannot be traced")
        return self.dense(self.pool(images))


@pytest.fixture
def float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


ON_ANOTHER_BACKEND = """
import keras, numpy as np
backbone = keras.saving.load_model("export/backbone.keras")
found = backbone(np.load("images.npy") / np.float32(255))["avgpool"]
np.save("found.npy", keras.ops.convert_to_numpy(found))
"""


@pytest.fixture(scope="module")
def backbone():
    """A tiny backbone with moving statistics other than the initial ones."""
    model = resnet18(width=0.125, stem="small")
    model(np.random.default_rng(1).random((8, 16, 16, 3), "float32"), training=True)
    return model


@pytest.fixture(scope="module")
def run_folder(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    export_backbone(backbone, folder / "export")
    return folder


def uint8_images(size=16, channels=3):
    shape = (2, size, size, channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def float_images(size=16, channels=3):
    return uint8_images(size, channels) / np.float32(255)


def assert_same_features(found, expected):
    assert sorted(found) == FEATURES
    for name in FEATURES:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_both_formats_have_the_same_features_without_byol_keras(backbone, run_folder):
    np.save(run_folder / "images.npy", uint8_images())
    subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=run_folder, check=True)
    expected = backbone(float_images(), training=False)
    for name in ("keras", "float", "uint8"):
        assert_same_features(dict(np.load(run_folder / f"{name}.npz")), expected)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_file_has_the_same_features_on_other_backends(
    backend, backbone, tmp_path
):
    pytest.importorskip(backend)
    export_backbone(backbone, tmp_path / "export")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )
    expected = backbone(images / np.float32(255))["avgpool"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)


def test_exported_file_hides_synchronization_and_training_has_it_again(
    backbone, tmp_path
):
    def synchronized(model):
        return {
            layer.synchronized
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        }

    export_backbone(backbone, tmp_path)
    assert synchronized(backbone) == {True}
    with zipfile.ZipFile(tmp_path / "backbone.keras") as archive:
        config = archive.read("config.json").decode()
    assert '"synchronized": false' in config
    assert '"synchronized": true' not in config
    path = tmp_path / "backbone.keras"
    assert synchronized(pretrained_backbone(backbone.input_shape[-1], str(path))) == {
        True
    }


@pytest.mark.parametrize(
    "path", ["", "export", "export/backbone.keras", "export/saved_model"]
)
def test_load_backbone_finds_the_backbone_at_each_kind_of_path(
    path, backbone, run_folder
):
    loaded = load_backbone(run_folder / path)
    assert isinstance(loaded, keras.Model)
    # Another size than the export was traced or built with.
    expected = backbone(float_images(20), training=False)
    assert_same_features(loaded(float_images(20)), expected)


def test_default_signature_takes_float32(run_folder):
    loaded = tf.saved_model.load(str(run_folder / "export" / "saved_model"))
    _, arguments = loaded.signatures["serving_default"].structured_input_signature
    assert {spec.dtype for spec in arguments.values()} == {tf.float32}


def test_loaded_keras_file_can_be_trained(backbone, run_folder):
    loaded = load_backbone(run_folder)
    assert len(loaded.trainable_variables) == len(backbone.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(float_images(), training=True)["avgpool"])
    gradients = tape.gradient(loss, [v.value for v in loaded.trainable_variables])
    assert all(gradient is not None for gradient in gradients)


def test_mixed_precision_backbone_has_the_same_features_in_both_formats(
    tmp_path, float32_afterwards
):
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = resnet18(width=0.125, stem="small")
    export_backbone(mixed, tmp_path)
    expected = mixed(float_images(), training=False)
    from_saved_model = load_backbone(tmp_path / "saved_model")
    keras.config.set_dtype_policy("float32")
    from_keras = load_backbone(tmp_path)
    for loaded in (from_keras, from_saved_model):
        outputs = loaded(float_images())
        assert {output.dtype for output in outputs.values()} == {tf.float32}
        assert_same_features(outputs, expected)


def test_plain_tensor_of_a_subclassed_model_is_served_as_avgpool(tmp_path):
    plain = PlainBackbone()
    expected = plain(float_images(channels=5))
    export_backbone(plain, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    for images in (float_images(channels=5), uint8_images(channels=5)):
        outputs = loaded.serve(tf.constant(images))
        assert list(outputs) == ["avgpool"]
        np.testing.assert_allclose(outputs["avgpool"], expected, atol=1e-5)


def test_fixed_image_size_is_kept(tmp_path):
    images = keras.Input((16, 16, 3))
    flat = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    model = keras.Model(images, flat)
    export_backbone(model, tmp_path)
    loaded = load_backbone(tmp_path / "saved_model")
    assert loaded.input_shape == (None, 16, 16, 3)
    expected = model(float_images())
    np.testing.assert_allclose(loaded(float_images())["avgpool"], expected, atol=1e-5)


def test_newer_export_replaces_an_older_one_and_the_rest_of_a_crash(tmp_path):
    (tmp_path / "saved_model.partial").mkdir()
    (tmp_path / "saved_model.partial" / "rest").write_text("of a crash")
    (tmp_path / "backbone.partial.keras").write_text("of a crash")
    older, newer = PlainBackbone(), PlainBackbone()
    older(float_images())
    expected = newer(float_images())
    export_backbone(older, tmp_path)
    export_backbone(newer, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "backbone.keras",
        "saved_model",
    ]
    found = load_backbone(tmp_path / "saved_model")(float_images())["avgpool"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_failed_export_leaves_the_older_saved_model_intact(tmp_path):
    plain = PlainBackbone()
    expected = plain(float_images())
    export_backbone(plain, tmp_path)
    plain.fails = True
    with pytest.raises(RuntimeError):
        export_backbone(plain, tmp_path)
    found = load_backbone(tmp_path / "saved_model")(float_images())["avgpool"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_unbuilt_model_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match=r"^backbone must be built \(call it once"):
        export_backbone(PlainBackbone(), tmp_path)


def test_error_on_a_missing_path_lists_the_candidates(tmp_path):
    with pytest.raises(ValueError) as error:
        load_backbone(tmp_path / "run")
    assert str(error.value) == (
        f"path must hold a backbone (looked for {tmp_path}/run/export/backbone.keras, "
        f"{tmp_path}/run/backbone.keras, {tmp_path}/run/saved_model.pb). "
        f"Received: {tmp_path}/run"
    )


@pytest.mark.parametrize("name", ["backbone.keras", "saved_model.pb"])
def test_unusable_file_is_named_in_one_line(name, tmp_path):
    (tmp_path / name).write_text("not a model")
    with pytest.raises(ValueError) as error:
        load_backbone(tmp_path)
    message = str(error.value)
    assert message.startswith("path must hold a backbone that loads (")
    assert message.endswith(f"Received: {tmp_path / name}")
    assert "\n" not in message


def dense_model(*units):
    images = outputs = keras.Input((4, 4, 3))
    for number, width in enumerate(units):
        outputs = keras.layers.Dense(width, name=f"dense{number}")(outputs)
    return keras.Model(images, outputs)


def with_weights_of(model, other, folder):
    """A file of one model with the weights of another."""
    path = folder / "mixed.keras"
    model.save(path)
    other.save_weights(folder / "other.weights.h5")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.weights.h5"] = (folder / "other.weights.h5").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((5, 2), r"dense0"),  # another shape
        ((4,), r"dense1"),  # one layer is missing
        ((4, 2, 7), r"2 arrays belong to no weight.*dense_2/vars/0 \(2, 7\).*\(7,\)"),
    ],
)
def test_weights_that_do_not_match_are_listed(other, message, tmp_path):
    path = with_weights_of(dense_model(4, 2), dense_model(*other), tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(path)
    assert "\n" not in str(error.value)


def test_damaged_bytes_are_detected(tmp_path):
    path = tmp_path / "backbone.keras"
    dense_model(64, 64).save(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.weights\.h5.*Received"):
        load_backbone(path)


def test_code_in_a_keras_file_is_not_executed(tmp_path):
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x)(images))
    model.save(tmp_path / "backbone.keras")
    with pytest.raises(ValueError, match=r"backbone that loads .*Lambda"):
        load_backbone(tmp_path)


def test_reinitialized_weights_depend_on_the_seed_alone(backbone):
    first, same, other = (reinitialized(backbone, seed) for seed in (0, 0, 1))
    for a, b in zip(first.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [
        [v.numpy() for v in model.trainable_variables if v.name == "kernel"]
        for model in (backbone, first, other)
    ]
    for old, fresh, another in zip(*kernels, strict=True):
        assert np.abs(old - fresh).max() > 0
        assert np.abs(fresh - another).max() > 0


def test_reinitialized_has_initial_statistics_and_the_given_normalisation():
    model = resnet18(channels=1, mean=[0.3], std=[0.5], width=0.125, stem="small")
    model(float_images(channels=1), training=True)
    fresh = reinitialized(model, 0)
    bn = fresh.get_layer("stem_bn")
    assert np.any(model.get_layer("stem_bn").moving_mean)
    assert not np.any(bn.moving_mean)
    assert np.all(bn.moving_variance == 1)
    normalised = fresh.get_layer("normalization")(np.full((1, 1, 1, 1), 0.8))
    assert float(normalised[0, 0, 0, 0]) == pytest.approx(1.0)


def test_reinitialized_changes_neither_the_original_nor_the_global_generator(backbone):
    weights = backbone.get_weights()
    random.seed(3)
    expected = random.random()
    random.seed(3)
    reinitialized(backbone, 0)
    assert random.random() == expected
    for before, after in zip(weights, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_reinitialized_works_on_a_loaded_keras_file(backbone, run_folder):
    loaded = reinitialized(load_backbone(run_folder), 0)
    for a, b in zip(
        loaded.get_weights(), reinitialized(backbone, 0).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["saved_model", "subclassed"])
def test_model_without_a_configuration_is_not_reinitialized(kind, run_folder):
    if kind == "saved_model":
        model = load_backbone(run_folder / "export" / "saved_model")
    else:
        model = PlainBackbone()
        model(float_images())
    with pytest.raises(ValueError, match=r"^backbone must be a model that Keras can"):
        reinitialized(model, 0)


def narrow_resnet(tmp_path, **options):
    backbone = resnet18(width=0.0625, **options)
    backbone.save(tmp_path / "backbone.keras")
    return backbone, str(tmp_path / "backbone.keras")


@pytest.mark.parametrize("target_init", ["copy", "random"])
def test_training_starts_with_the_weights_of_a_file(target_init, tmp_path):
    backbone, file = narrow_resnet(tmp_path)
    model = BYOL(pretrained_backbone(3, file), 8, 4, target_init=target_init)
    for network in (model.online, model.target):
        for one, other in zip(network.backbone.weights, backbone.weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(model.online.backbone.trainable_weights) > 0


def test_pretrained_backbone_of_other_channels_is_refused(tmp_path):
    _, file = narrow_resnet(tmp_path, channels=1)
    with pytest.raises(ValueError, match=r"images of 3 channels\. Received: .* for 1"):
        pretrained_backbone(3, file)


def test_pretrained_backbone_that_cannot_be_trained_is_refused(tmp_path):
    backbone, _ = narrow_resnet(tmp_path)
    export_backbone(backbone, tmp_path)
    with pytest.raises(ValueError, match=r"must be a \.keras file"):
        pretrained_backbone(3, str(tmp_path / "saved_model"))


def test_url_is_no_backbone():
    with pytest.raises(ValueError, match=r"^backbone must be a local path"):
        load_backbone("https://host/backbone.keras")
