"""Writes a backbone as `.keras` and SavedModel; `load_backbone` reads both back."""

import collections
import contextlib
import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gin
import h5py
import keras
import tensorflow as tf

from byol_keras.data.decoding import to_float
from byol_keras.networks import batch_norms, synchronize
from byol_keras.runtime.atomic_files import write_whole
from byol_keras.runtime.run_folder import ExportFolder, RunFolder, check_local


def export_backbone(backbone: keras.Model, folder: str | os.PathLike) -> None:
    """Writes `folder/backbone.keras` and `folder/saved_model/`.

    Both are written atomically, so that a crash leaves an older export intact. The
    `.keras` file loads on all backends of Keras.

    The SavedModel needs TensorFlow only: after `loaded = tf.saved_model.load(path)`,
    `loaded.serve(images)` takes float32 images in 0..1 or uint8 images in 0..255,
    `[B, H, W, C]`, and returns the dict of features, in inference mode. Keep `loaded`
    alive: it owns the weights. The default signature takes float32.

    Args:
        backbone: a built `keras.Model`, float32 `[B, H, W, C]` in 0..1 -> a dict of
            features, or one tensor `[B, D]`, which `serve` returns as `avgpool`.
        folder: where to write; created if missing.

    Raises:
        ValueError: if `backbone` is not built: its channels are not known then.
    """
    shape = image_shape(backbone)
    exported = ExportFolder(folder)
    exported.path.mkdir(parents=True, exist_ok=True)
    with _unsynchronized(backbone):
        write_whole(exported.backbone, backbone.save)
    write_whole(
        exported.saved_model, lambda path: save_saved_model(backbone, shape, path)
    )


@contextlib.contextmanager
def _unsynchronized(model):
    """Hides `synchronized` of BatchNormalization, which other backends refuse."""
    layers = [layer for layer in batch_norms(model) if layer.synchronized]
    for layer in layers:
        layer.synchronized = False
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = True


def load_backbone(path: str | os.PathLike) -> keras.Model:
    """Loads a backbone for evaluation.

    Args:
        path: a `.keras` file, a run folder (with `export/backbone.keras`), an export
            folder (with `backbone.keras`) or a SavedModel folder. A `.keras` file is
            loaded in Keras's safe mode, which executes no code from the file. A
            SavedModel is a program: load only one that you trust, and outside of the
            scope of a `tf.distribute` strategy, where TensorFlow cannot run it.

    Returns:
        A `keras.Model`, float32 `[B, H, W, C]` in 0..1 -> features. The model of a
        `.keras` file can be trained; that of a SavedModel is in inference mode.

    Raises:
        ValueError: if no model is found at `path`, or if it does not load.
    """
    check_local("backbone", path)
    path = Path(path)
    found = find_backbone(path)
    try:
        if found.name == "saved_model.pb":
            return _load_saved_model(found.parent)
        backbone = _load_keras_file(found)
    except Exception as error:  # the loaders raise what their file formats raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"path must hold a backbone that loads ({reason}). Received: {found}"
        ) from error
    # `BYOL` starts the target with these weights, too, whatever its target_init.
    backbone.has_trained_weights = True
    return backbone


class OtherChannels(ValueError):
    """A pretrained backbone is for images of other channels than the data's."""


@gin.register(module="byol_keras")
def pretrained_backbone(channels: int, file: str) -> keras.Model:
    """A pretrained backbone as the start of training, for `train.backbone_fn`.

    Args:
        channels: int. Channels of the images.
        file: path for `load_backbone`; not a SavedModel.

    Returns:
        A `keras.Model` from `load_backbone`, with BatchNormalization synchronized over
        replicas. Its dtype policy is the file's, which may differ from the precision of
        the run.

    Raises:
        OtherChannels: if it takes images of other channels.
        ValueError: if there is no such backbone, or it cannot be trained.
    """
    backbone = load_backbone(file)
    shape = image_shape(backbone)
    if shape[-1] != channels:
        raise OtherChannels(
            f"pretrained_backbone.file must be a backbone for images of {channels} "
            f"channels. Received: {file}, for {shape[-1]} channels"
        )
    if any(isinstance(layer, keras.layers.TFSMLayer) for layer in backbone.layers):
        raise ValueError(
            "pretrained_backbone.file must be a .keras file, which can be trained. "
            f"Received: {file}"
        )
    synchronize(backbone)
    return backbone


def reinitialized(backbone: keras.Model, seed: int) -> keras.Model:
    """Returns the same architecture with new random weights: the untrained baseline.

    Args:
        backbone: a built `keras.Model` that Keras can make from its configuration.
        seed: int. The same seed gives the same weights. Initialisers with a seed of
            their own keep it.

    Returns:
        A new model. BatchNormalization has its initial statistics; a Normalization
        layer keeps its mean and variance.

    Raises:
        ValueError: if the model has no configuration, such as one from a SavedModel.
    """
    with _keras_seed(seed):
        return rebuilt(backbone, backbone.get_config)


def rebuilt(
    backbone: keras.Model, get_config: Callable[[], dict[str, Any]]
) -> keras.Model:
    """Returns a new model of a backbone's class, built as the backbone is.

    Args:
        backbone: a built `keras.Model`.
        get_config: returns the configuration of the new model.

    Raises:
        ValueError: if the model has no configuration.
    """
    try:
        fresh = type(backbone).from_config(get_config())
        if not fresh.built:
            fresh.build_from_config(backbone.get_build_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "backbone must be a model that Keras can make from its configuration, "
            f"such as one from a .keras file. Received: {backbone.name!r}"
        ) from error
    return fresh


@contextlib.contextmanager
def _keras_seed(seed: int) -> Iterator[None]:
    """Seeds the initialisers that are created in the block, and nothing after it.

    Keras takes the seed of an initialiser without one from Python's random generator.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def find_backbone(path: Path) -> Path:
    """The `.keras` file or `saved_model.pb` that `load_backbone` loads from a path.

    Raises:
        ValueError: if there is none.
    """
    candidates = [
        RunFolder(path).backbone,
        ExportFolder(path).backbone,
        path / "saved_model.pb",
    ]
    if path.suffix == ".keras":
        candidates = [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked_for = ", ".join(str(candidate) for candidate in candidates)
    raise ValueError(
        f"path must hold a backbone (looked for {looked_for}). Received: {path}"
    )


def image_shape(backbone: keras.Model) -> tuple[int | None, ...]:
    """The shape of an image batch; height and width are None if they may vary."""
    if getattr(backbone, "inputs", None):
        return (None, *backbone.inputs[0].shape[1:])
    # A subclassed model has only the shape of its first call.
    shape = (backbone.get_build_config() or {}).get("input_shape")
    if shape is None:
        raise ValueError(
            "backbone must be built (call it once on an image batch). "
            f"Received: {backbone.name!r}"
        )
    return (None, None, None, shape[-1])


def save_saved_model(
    backbone: keras.Model, shape: tuple[int | None, ...], path: Path
) -> None:
    """Writes a SavedModel with one endpoint, `serve`, traced for both dtypes."""

    @tf.function
    def serve(images):
        outputs = backbone(to_float(images), training=False)
        outputs = outputs if isinstance(outputs, dict) else {"avgpool": outputs}
        # Backbones of mixed precision may return 16 bits.
        return {name: tf.cast(x, tf.float32) for name, x in outputs.items()}

    # The first trace is the default signature.
    for dtype in (tf.float32, tf.uint8):
        serve.get_concrete_function(tf.TensorSpec(shape, dtype, name="images"))
    archive = keras.export.ExportArchive()
    archive.track(backbone)
    archive.add_endpoint("serve", serve)
    archive.write_out(str(path), verbose=False)


def _load_keras_file(path: Path) -> keras.Model:
    """The model of a complete file, all arrays of which belong to the model."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the part {damaged} is damaged")
        with archive.open("model.weights.h5") as weights:
            stored = _arrays_of_h5(weights)
    model = keras.saving.load_model(path, compile=False)
    own = collections.Counter(tuple(variable.shape) for variable in model.variables)
    surplus = []
    for name, shape in stored.items():
        own[shape] -= 1
        if own[shape] < 0:
            surplus.append(f"{name} {shape}")
    if surplus:
        raise ValueError(
            f"{len(surplus)} arrays belong to no weight of the model: "
            f"{', '.join(surplus)}"
        )
    return model


def _arrays_of_h5(file) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays in an HDF5 file, by path."""
    shapes = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape

    with h5py.File(io.BytesIO(file.read()), "r") as content:
        content.visititems(visit)
    return shapes


def _load_saved_model(folder: Path) -> keras.Model:
    """A functional model with the endpoint `serve` as its only layer."""
    # float32 under every dtype policy: the saved graph takes nothing else.
    serve = keras.layers.TFSMLayer(str(folder), call_endpoint="serve", dtype="float32")
    traced = serve.call_endpoint_fn.concrete_functions[0]
    shape = tf.nest.flatten(traced.structured_input_signature)[0].shape
    images = keras.Input(shape[1:], dtype="float32", name="images")
    return keras.Model(images, serve(images), name="backbone")
