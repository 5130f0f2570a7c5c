"""Writes a model in the formats of other runtimes, and compares what these compute."""

import importlib.util
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from byol_keras.export import image_shape, load_backbone, save_saved_model
from byol_keras.runtime.atomic_files import write_whole

# Format -> file or folder, and how far its outputs may be from the model's, as a share
# of the greatest of them.
FORMATS = {
    "keras": ("model.keras", 1e-4),
    "saved_model": ("saved_model", 1e-4),
    "onnx": ("model.onnx", 1e-4),
    "tflite": ("model.tflite", 1e-2),
}
_ONNX_OPSET = 17


def check_format(form: str) -> None:
    """Raises a `ValueError` for an unknown format, or one whose extra is missing."""
    if form not in FORMATS:
        raise ValueError(f"--format must be one of {(*FORMATS,)}. Received: {form!r}")
    needed = ("onnx", "tf2onnx", "onnxruntime") if form == "onnx" else ()
    for name in needed:
        if not importlib.util.find_spec(name):
            raise ValueError(
                'ONNX needs the extra: pip install "byol_keras[onnx]". '
                f"Received: no module {name}"
            )


def write(model: keras.Model, form: str, path: pathlib.Path, size: int) -> None:
    """Writes a model, whole or not at all.

    Args:
        model: float32 `[B, H, W, C]` in 0..1 -> dict of outputs, or `[B, D]`, which
            comes as `avgpool`.
        form: a key of `FORMATS`.
        path: of the file or folder.
        size: int. Height and width of the images of a LiteRT model, which cannot vary.
    """
    shape = image_shape(model)
    if form == "keras":
        write_whole(path, model.save)
    elif form == "saved_model":
        write_whole(path, lambda part: save_saved_model(model, shape, part))
    elif form == "onnx":
        write_whole(path, lambda part: part.write_bytes(_onnx(model, shape)))
    else:
        fixed = (None, size, size, shape[-1])
        write_whole(path, lambda part: part.write_bytes(_tflite(model, fixed)))


def run(form: str, path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the runtime of a format computes for images, float32 `[B, H, W, C]`."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        values = session.run(names, {session.get_inputs()[0].name: images})
        return dict(zip(names, values, strict=True))
    if form == "tflite":
        interpreter = tf.lite.Interpreter(model_path=str(path))
        return interpreter.get_signature_runner()(images=images)
    if form == "saved_model":
        loaded = tf.saved_model.load(path)
        return {k: v.numpy() for k, v in loaded.serve(tf.constant(images)).items()}
    return outputs_of(load_backbone(path), images)


def names_of(model: keras.Model) -> list[str]:
    """Names of a model's outputs."""
    return [*_named(model.output)]


def outputs_of(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a model by name, in inference mode."""
    return {k: v.numpy() for k, v in _named(model(images, training=False)).items()}


def check(model: keras.Model, form: str, path: pathlib.Path, size: int) -> float:
    """The greatest difference on random images, as a share of the greatest output.

    Raises:
        RuntimeError: if it is more than the format allows.
    """
    shape = (2, size, size, image_shape(model)[-1])
    images = np.random.default_rng(0).random(shape, np.float32)
    expected, found = outputs_of(model, images), run(form, path, images)
    worst = max(
        float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-12))
        for name, value in expected.items()
    )
    limit = FORMATS[form][1]
    if not worst <= limit:
        raise RuntimeError(f"{path} differs from the model by {worst:.2e} > {limit}")
    return worst


def _named(outputs):
    return outputs if isinstance(outputs, dict) else {"avgpool": outputs}


def _traced(model, shape):
    @tf.function
    def forward(images):
        outputs = _named(model(images, training=False))
        # Under these names they come out of ONNX too.
        return {name: tf.identity(x, name=name) for name, x in outputs.items()}

    spec = tf.TensorSpec(shape, tf.float32, name="images")
    return forward.get_concrete_function(spec)


def _onnx(model, shape):
    import tf2onnx
    from tensorflow.python.framework import convert_to_constants

    # Keras's own export to ONNX makes inputs of the constants of Normalization.
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
    """Renames inputs and outputs of an ONNX graph, wherever they are used."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)


def _tflite(model, shape):
    # By way of a SavedModel: from a function the converter takes the constants of
    # Normalization for inputs, and leaves them 0.
    with tempfile.TemporaryDirectory() as folder:
        save_saved_model(model, shape, pathlib.Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        return converter.convert()
