"""Renames and transposes the weights of our ResNets as torchvision's."""

import json

import keras
import numpy as np

from byol_keras.interop.import_resnet import METADATA, variables_of
from byol_keras.interop.names import ANCHOR, torch_name


def torchvision_arrays(
    backbone: keras.Model,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Weights of one of our ResNets with torchvision's names, and metadata.

    Args:
        backbone: a ResNet of `backbones`, with padding "torch".

    Returns:
        float32 arrays by name, with torch's order of axes, and text by name: stem, mean
        and std, which do not follow from the tensors.

    Raises:
        ValueError: if the backbone is another model, or has the padding "same", which
            torchvision lacks.
    """
    variables = variables_of(backbone)
    is_ours = {("stem_conv", "kernel"), ANCHOR} <= set(variables)
    if not is_ours or "normalization" not in {x.name for x in backbone.layers}:
        raise ValueError(
            "backbone must be a ResNet of byol_keras.backbones to be written as "
            f"safetensors. Received: {backbone.name!r}"
        )
    if any(_is_padded_unevenly(layer) for layer in backbone.layers):
        raise ValueError(
            'backbone must have padding "torch" to be written with torchvision\'s '
            "names, since torchvision's ResNets have no other. "
            f'Received: {backbone.name!r} with padding "same"'
        )
    arrays = {}
    for key, variable in variables.items():
        values = np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
        if key[1] == "kernel":
            values = values.transpose(3, 2, 0, 1)
        arrays[torch_name(*key)] = np.ascontiguousarray(values)
    return arrays, {"format": "pt", METADATA: json.dumps(_settings_of(backbone))}


def _settings_of(backbone):
    """The arguments of the builder that do not follow from the weights."""
    convolution = backbone.get_layer("stem_conv")
    stem = {(7, 2): "imagenet", (3, 1): "cifar", (3, 2): "small"}[
        convolution.kernel_size[0], convolution.strides[0]
    ]
    normalization = backbone.get_layer("normalization").get_config()
    return {
        "stem": stem,
        "mean": np.ravel(normalization["mean"]).tolist(),
        "std": np.sqrt(np.ravel(normalization["variance"])).tolist(),
    }


def _is_padded_unevenly(layer):
    is_window = isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPooling2D))
    if not is_window or layer.padding != "same" or layer.strides[0] == 1:
        return False
    size = layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size
    return size[0] > 1
