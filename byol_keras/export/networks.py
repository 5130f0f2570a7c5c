"""The online or the target network of a run, with or without its projector."""

import os

import keras

from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.export import load_backbone
from byol_keras.networks import mlp_head
from byol_keras.results import provenance
from byol_keras.runtime.argument_checks import check_choice
from byol_keras.runtime.run_folder import RunFolder

NETWORKS = ("online", "target")
PARTS = ("backbone", "projector")
# Ranks of the variables of Dense with bias, BatchNormalization and Dense.
_HEAD = (2, 1, 1, 1, 1, 1, 2)
# Ranks of the moving mean and variance of `mlp_head(standardize=True)`.
_STANDARDIZATION = (1, 1)


def network_of_run(
    model_dir: str | os.PathLike, network: str = "online", part: str = "backbone"
) -> keras.Model:
    """A network with the weights of the run's newest checkpoint.

    Args:
        model_dir: run folder, with the exported backbone and, unless the online
            backbone of a finished run is requested, a checkpoint. The export of a run
            that was continued and has not ended is of an earlier step.
        network: "online" or "target".
        part: "backbone", images -> features; or "projector", images -> a dict with
            `projection`, float32 `[B, P]`, computed by backbone and projector.

    Returns:
        `keras.Model` of float32 `[B, H, W, C]` in 0..1.

    Raises:
        ValueError: for another network or part, without a checkpoint, and for a
            projector other than `mlp_head`.
    """
    check_choice("network", network, NETWORKS)
    check_choice("part", part, PARTS)
    backbone = load_backbone(model_dir)
    is_exported = not provenance.is_underway(provenance.starts(model_dir))
    if (network, part) == ("online", "backbone") and is_exported:
        return backbone
    arrays = _arrays(model_dir, network)
    own, rest = arrays[: len(backbone.variables)], arrays[len(backbone.variables) :]
    _assign(backbone, own, model_dir)
    return backbone if part == "backbone" else _with_projector(backbone, rest)


def _arrays(model_dir, network):
    """Variables of backbone and projector in the newest checkpoint, in order."""
    folder = CheckpointFolder(RunFolder(model_dir).checkpoints)
    found = folder.newest()
    folder.close()
    if found is None:
        raise ValueError(f"model_dir must hold a checkpoint. Received: {model_dir}")
    names = sorted(name for name in found.arrays if name.startswith(f"{network}/"))
    return [found.arrays[name] for name in names]


def _assign(model, arrays, model_dir):
    shapes = [tuple(variable.shape) for variable in model.variables]
    if shapes != [array.shape for array in arrays]:
        raise ValueError(
            "model_dir must hold a checkpoint of the exported backbone. "
            f"Received: {model_dir}"
        )
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)


def _with_projector(backbone, arrays):
    dimensions = tuple(array.ndim for array in arrays)
    standardized = dimensions == (*_HEAD, *_STANDARDIZATION)
    if dimensions != _HEAD and not standardized:
        shapes = [array.shape for array in arrays]
        raise ValueError(
            'part must be "backbone" for a projector other than mlp_head. '
            f"Received: 'projector', with variables of {shapes}"
        )
    images = keras.Input(backbone.inputs[0].shape[1:], name="images")
    outputs = backbone(images, training=False)
    h = outputs["avgpool"] if isinstance(outputs, dict) else outputs
    hidden_units, output_units = (arrays[i].shape[1] for i in (0, len(_HEAD) - 1))
    head = mlp_head(
        hidden_units, output_units, standardize=standardized, name="projector"
    )
    model = keras.Model(images, {"projection": head(h)}, name="encoder")
    for variable, array in zip(head.variables, arrays, strict=True):
        variable.assign(array)
    return model
