"""Writes a model in the formats of other runtimes, and compares their outputs."""

import contextlib
import importlib.util
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from byol_keras.export import image_shape, load_backbone, save_saved_model
from byol_keras.export.backbone import rebuilt
from byol_keras.networks import copy_weights
from byol_keras.runtime.argument_checks import check_choice
from byol_keras.runtime.atomic_files import write_whole

# Format -> name of its file or folder, and the largest difference allowed between its
# outputs and the model's, relative to the largest output.
FORMATS = {
    "keras": ("model.keras", 1e-4),
    "saved_model": ("saved_model", 1e-4),
    "onnx": ("model.onnx", 1e-4),
    "tflite": ("model.tflite", 1e-2),
}
_ONNX_OPSET = 17
# Dtypes and policies of Keras.
_HALVES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
_LONGEST_REASON = 300


def check_format(file_format: str) -> None:
    """Raises a `ValueError` for an unknown format, and if its packages are missing."""
    check_choice("file_format", file_format, FORMATS)
    needed = ("onnx", "tf2onnx", "onnxruntime") if file_format == "onnx" else ()
    for name in needed:
        if not importlib.util.find_spec(name):
            raise ValueError(
                'file_format needs an extra: pip install "byol_keras[onnx]". '
                f"Received: {file_format!r}, no module {name}"
            )


def write(model: keras.Model, file_format: str, path: pathlib.Path, size: int) -> float:
    """Writes a model atomically, if its outputs in the format are the model's.

    A model of mixed precision computes in float32 in all formats but `.keras`.

    Args:
        model: float32 `[B, H, W, C]` in 0..1 -> dict of outputs, or `[B, D]`, which is
            written as the output `avgpool`.
        file_format: a key of `FORMATS`.
        path: of the file or folder.
        size: int. Height and width of the images of a LiteRT model, which are fixed.

    Returns:
        The largest difference of the outputs; see `check`.

    Raises:
        RuntimeError: if the model cannot be converted, or `check` fails.
    """
    if file_format != "keras":
        model = in_float32(model)
    worst = None

    def write_checked(part):
        nonlocal worst
        with _conversion(file_format):
            _convert(model, file_format, part, size)
        worst = check(model, file_format, part, size)

    write_whole(path, write_checked)
    return worst


def _convert(model, file_format, path, size):
    shape = image_shape(model)
    if file_format == "keras":
        model.save(path)
    elif file_format == "saved_model":
        save_saved_model(model, shape, path)
    elif file_format == "onnx":
        path.write_bytes(_onnx(model, shape))
    else:
        path.write_bytes(_tflite(model, (None, size, size, shape[-1])))


@contextlib.contextmanager
def _conversion(file_format):
    """Raises whatever a converter or runtime of a format raises as one line."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RuntimeError(
            "file_format must be one that the network can be converted to "
            f"({reason[:_LONGEST_REASON]}). Received: {file_format!r}"
        ) from error


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself, or one of the same weights, if layers of it compute in 16 bits.

    Raises:
        ValueError: if Keras cannot make the model from its configuration.
    """
    dtypes = {getattr(x, "compute_dtype", None) for x in model._flatten_layers()}
    if not dtypes & {*_HALVES}:
        return model
    policy = keras.config.dtype_policy()
    # Layers that a subclassed model makes take the global policy.
    keras.config.set_dtype_policy("float32")
    try:
        single = rebuilt(model, lambda: _float32_config(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(single, model)
    return single


def _float32_config(config):
    """A configuration of Keras with float32 for every policy and dtype of 16 bits."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32_config, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if _names_half(key, value) else _float32_config(value)
        for key, value in config.items()
    }


def _names_half(key, value):
    return key in ("dtype", "name") and isinstance(value, str) and value in _HALVES


def run(
    file_format: str, path: pathlib.Path, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Outputs of a format's runtime for images, float32 `[B, H, W, C]`."""
    if file_format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        values = session.run(names, {session.get_inputs()[0].name: images})
        return dict(zip(names, values, strict=True))
    if file_format == "tflite":
        interpreter = tf.lite.Interpreter(model_path=str(path))
        return interpreter.get_signature_runner()(images=images)
    if file_format == "saved_model":
        loaded = tf.saved_model.load(path)
        return {k: v.numpy() for k, v in loaded.serve(tf.constant(images)).items()}
    return outputs_of(load_backbone(path), images)


def names_of(model: keras.Model) -> list[str]:
    """Names of a model's outputs, sorted."""
    return sorted(_traced(model, image_shape(model)).structured_outputs)


def outputs_of(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a model by name, in inference mode."""
    return {k: v.numpy() for k, v in _named(model(images, training=False)).items()}


def check(model: keras.Model, file_format: str, path: pathlib.Path, size: int) -> float:
    """The largest difference on random images, relative to the largest output.

    Args:
        model, file_format, path, size: see `write`.

    Raises:
        RuntimeError: if the difference is above the limit of the format, or its runtime
            cannot run the file.
    """
    shape = (2, size, size, image_shape(model)[-1])
    images = np.random.default_rng(0).random(shape, np.float32)
    expected = outputs_of(model, images)
    with _conversion(file_format):
        found = run(file_format, path, images)
        worst = np.max([_difference(found[name], x) for name, x in expected.items()])
    limit = FORMATS[file_format][1]
    if not worst <= limit:  # NaN is not
        raise RuntimeError(
            f"the {file_format} export differs from the model by {worst:.2e} > {limit}"
        )
    return float(worst)


def _difference(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)


def _named(outputs):
    return outputs if isinstance(outputs, dict) else {"avgpool": outputs}


def _traced(model, shape):
    @tf.function
    def forward(images):
        outputs = _named(model(images, training=False))
        # ONNX takes its names of outputs from these operations.
        return {name: tf.identity(x, name=name) for name, x in outputs.items()}

    spec = tf.TensorSpec(shape, tf.float32, name="images")
    return forward.get_concrete_function(spec)


def _onnx(model, shape):
    import tf2onnx
    from tensorflow.python.framework import convert_to_constants

    # Keras's own export to ONNX turns the constants of Normalization into inputs.
    traced = _traced(model, shape)
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    (images,) = [x.name for x in frozen.inputs if x.name.startswith("images")]
    names = sorted(traced.structured_outputs)
    tensors = [x.name for x in frozen.outputs]
    converted, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[images],
        output_names=tensors,
        opset=_ONNX_OPSET,
    )
    _rename(
        converted.graph, {images: "images", **dict(zip(tensors, names, strict=True))}
    )
    return converted.SerializeToString()


def _rename(graph, names):
    """Renames inputs and outputs in all nodes of an ONNX graph."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)


def _tflite(model, shape):
    # Converted from a SavedModel: in a function, the converter treats the constants of
    # Normalization as inputs, and sets them to 0.
    with tempfile.TemporaryDirectory() as folder:
        save_saved_model(model, shape, pathlib.Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        return converter.convert()
