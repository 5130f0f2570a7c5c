"""The digest that identifies a backbone."""

import hashlib
import pathlib

import keras


def backbone_digest(backbone: keras.Model) -> str:
    """Hex digest of a backbone's weights and configuration.

    Args:
        backbone: a `keras.Model` from `export.load_backbone`.
    """
    programs = [layer for layer in backbone.layers if _is_program(layer)]
    digest = hashlib.sha256()
    for layer in programs:
        digest.update(pathlib.Path(layer.filepath, "saved_model.pb").read_bytes())
    if not programs:
        digest.update(backbone.to_json().encode())
    for weight in backbone.weights:
        value = keras.ops.convert_to_numpy(weight)
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _is_program(layer):
    """Whether a layer is a SavedModel, the configuration of which is only a path."""
    return isinstance(layer, keras.layers.TFSMLayer)
