"""Writes a model in the formats of other runtimes, and compares their outputs."""

import importlib.util
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from byol_keras.export import image_shape, load_backbone, save_saved_model
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


def write(model: keras.Model, file_format: str, path: pathlib.Path, size: int) -> None:
    """Writes a model atomically.

    Args:
        model: float32 `[B, H, W, C]` in 0..1 -> dict of outputs, or `[B, D]`, which is
            written as the output `avgpool`.
        file_format: a key of `FORMATS`.
        path: of the file or folder.
        size: int. Height and width of the images of a LiteRT model, which are fixed.
    """
    shape = image_shape(model)
    if file_format == "keras":
        write_whole(path, model.save)
    elif file_format == "saved_model":
        write_whole(path, lambda part: save_saved_model(model, shape, part))
    elif file_format == "onnx":
        write_whole(path, lambda part: part.write_bytes(_onnx(model, shape)))
    else:
        fixed = (None, size, size, shape[-1])
        write_whole(path, lambda part: part.write_bytes(_tflite(model, fixed)))


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
    """Names of a model's outputs."""
    return [*_named(model.output)]


def outputs_of(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a model by name, in inference mode."""
    return {k: v.numpy() for k, v in _named(model(images, training=False)).items()}


def check(model: keras.Model, file_format: str, path: pathlib.Path, size: int) -> float:
    """The largest difference on random images, relative to the largest output.

    Args:
        model, file_format, path, size: see `write`.

    Raises:
        RuntimeError: if the difference is above the limit of the format.
    """
    shape = (2, size, size, image_shape(model)[-1])
    images = np.random.default_rng(0).random(shape, np.float32)
    expected, found = outputs_of(model, images), run(file_format, path, images)
    worst = max(
        float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-12))
        for name, value in expected.items()
    )
    limit = FORMATS[file_format][1]
    if not worst <= limit:
        raise RuntimeError(f"{path} differs from the model by {worst:.2e} > {limit}")
    return worst


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
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        _traced(model, shape)
    )
    (images,) = [x.name for x in frozen.inputs if x.name.startswith("images")]
    names = sorted(names_of(model))
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
