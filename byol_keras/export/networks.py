"""The networks of a run: online or target, with or without the projector."""

import pathlib

import keras

from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.export import load_backbone
from byol_keras.networks import mlp_head
from byol_keras.runtime.run_folder import RunFolder

NETWORKS = ("online", "target")
PARTS = ("backbone", "projector")
# Dense with bias, BatchNormalization, Dense: dimensions of their variables.
_HEAD = (2, 1, 1, 1, 1, 1, 2)


def network_of_run(
    run_folder: pathlib.Path, network: str = "online", part: str = "backbone"
) -> keras.Model:
    """A network with the weights of the run's newest checkpoint.

    Args:
        run_folder: with `export/backbone.keras` and `checkpoints/`; of the online
            backbone alone the export is enough.
        network: "online" or "target".
        part: "backbone", images -> features; or "projector", images -> a dict of
            `projection`, float32 `[B, P]`: the backbone and the projector.

    Returns:
        `keras.Model` of float32 `[B, H, W, C]` in 0..1.

    Raises:
        ValueError: for another network or part, without a checkpoint, and for a
            projector that is not the one of `byol.mlp_head`.
    """
    for name, value, known in (
        ("network", network, NETWORKS),
        ("part", part, PARTS),
    ):
        if value not in known:
            raise ValueError(f"--{name} must be one of {known}. Received: {value!r}")
    backbone = load_backbone(run_folder)
    if (network, part) == ("online", "backbone"):
        return backbone
    arrays = _arrays(run_folder, network)
    own, rest = arrays[: len(backbone.variables)], arrays[len(backbone.variables) :]
    _assign(backbone, own, run_folder)
    return backbone if part == "backbone" else _with_projector(backbone, rest)


def _arrays(run_folder, network):
    """Variables of encoder and projector, in the order that Keras has them in."""
    folder = CheckpointFolder(RunFolder(run_folder).checkpoints)
    found = folder.newest()
    folder.close()
    if found is None:
        raise ValueError(f"--model_dir must hold a checkpoint. Received: {run_folder}")
    names = sorted(name for name in found.arrays if name.startswith(f"{network}/"))
    return [found.arrays[name] for name in names]


def _assign(model, arrays, run_folder):
    shapes = [tuple(variable.shape) for variable in model.variables]
    if shapes != [array.shape for array in arrays]:
        raise ValueError(
            "--model_dir must hold a checkpoint of the backbone that it has exported. "
            f"Received: {run_folder}"
        )
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)


def _with_projector(backbone, arrays):
    if tuple(array.ndim for array in arrays) != _HEAD:
        raise ValueError(
            "--part=projector needs the projector of byol.mlp_head. "
            f"Received: variables of {[array.shape for array in arrays]}"
        )
    images = keras.Input(backbone.inputs[0].shape[1:], name="images")
    outputs = backbone(images, training=False)
    h = outputs["avgpool"] if isinstance(outputs, dict) else outputs
    head = mlp_head(arrays[0].shape[1], arrays[-1].shape[1], name="projector")
    model = keras.Model(images, {"projection": head(h)}, name="encoder")
    for variable, array in zip(head.variables, arrays, strict=True):
        variable.assign(array)
    return model
