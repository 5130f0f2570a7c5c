"""Continued pre-training: a run starts from the networks of another run."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.checkpoints.variables import (
    assign,
    by_position,
    variables_of_networks,
)
from byol_keras.export import load_backbone
from byol_keras.networks import take_statistics
from byol_keras.runtime.argument_checks import existing_folder
from byol_keras.runtime.run_folder import RunFolder

# Ranks of the variables of `mlp_head`: Dense with bias, BatchNormalization, Dense.
_HEAD = (2, 1, 1, 1, 1, 1, 2)
_BACKBONE_ALONE = (
    "train.backbone_fn = @pretrained_backbone without train.start_from starts from a "
    "backbone alone"
)


class Source(NamedTuple):
    """The networks of a run from which another run starts.

    Attributes:
        path: of the run folder, as `train.start_from` has it.
        step: int. Step of its newest checkpoint that could be read.
        digest: hex SHA-256 of the weights and statistics of the networks.
        config: fingerprint of the run; see `checkpoints.fingerprint`.
        damaged: one line for each newer checkpoint that could not be read.
        arrays: variables of online network, target and predictor, by part and position.
    """

    path: str
    step: int
    digest: str
    config: Mapping[str, str]
    damaged: list[str]
    arrays: Mapping[str, np.ndarray]

    def record(self) -> dict:
        """What checkpoints of the new run hold of its source, in JSON types."""
        return {"path": self.path, "step": self.step, "sha256": self.digest}

    def peak(self, quantity: str) -> float | None:
        """The largest logged value of a quantity; None if nothing was logged."""
        values = self._logged(quantity)
        return max(values, default=None)

    def first(self, quantity: str) -> float | None:
        """The first logged value of a quantity; None if nothing was logged."""
        return next(iter(self._logged(quantity)), None)

    def _logged(self, quantity):
        try:
            lines = RunFolder(self.path).metrics.read_text().splitlines()
            found = [json.loads(line).get(quantity) for line in lines]
        except (OSError, ValueError):
            return []
        return [x for x in found if isinstance(x, int | float) and math.isfinite(x)]


def find_source(start_from: str | None, model_dir: str | None) -> Source | None:
    """The source of a run; None without one, and for a run that will resume.

    Args:
        start_from: the value of `train.start_from`.
        model_dir: folder of the run that starts; None for a dry run.
    """
    if start_from is None:
        return None
    if model_dir and not CheckpointFolder(RunFolder(model_dir).checkpoints).is_empty():
        return None
    return read_source(start_from)


def read_source(start_from: str) -> Source:
    """Reads the networks of a run folder from its newest checkpoint.

    Args:
        start_from: path of the run folder, the value of `train.start_from`.

    Raises:
        ValueError: without such a folder, or without a checkpoint that can be read.
    """
    if start_from.endswith(".keras"):
        raise ValueError(
            "train.start_from must be a run folder, with all networks; "
            f"{_BACKBONE_ALONE}. Received: {start_from}"
        )
    folder = RunFolder(existing_folder("train.start_from", start_from))
    checkpoints = CheckpointFolder(folder.checkpoints)
    try:
        found = checkpoints.newest()
    except ValueError as error:
        reason = str(error).rpartition("Received: ")[2]
        raise ValueError(
            f"train.start_from must hold an undamaged checkpoint. Received: {reason}"
        ) from error
    if found is None:
        raise ValueError(
            "train.start_from must be a run folder with a checkpoint; "
            f"{_BACKBONE_ALONE}. Received: {start_from}, without one in "
            f"{folder.checkpoints}"
        )
    arrays = {
        name: array
        for name, array in found.arrays.items()
        if name.partition("/")[0] in ("online", "target", "predictor")
    }
    config = found.about.get("config", {})
    return Source(
        str(folder), found.step, digest_of(arrays), config, found.damaged, arrays
    )


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Hex SHA-256 of arrays and their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def describe_source(record: Mapping) -> str:
    """`Source.record` in words, with the start of the digest."""
    return (
        f"all networks of {record['path']} at step {record['step']}, "
        f"sha256 {record['sha256'][:12]}"
    )


def take_over(model: keras.Model, source: Source, shape: tuple[int, ...]) -> None:
    """Assigns the weights and statistics of a source to online, target and predictor.

    Args:
        model: built `BYOL`.
        source: from `read_source`.
        shape: of a view, `(S, S, C)`.

    Raises:
        ValueError: if the model has other networks than the source. Nothing is
            assigned if their weights have other shapes.
    """
    variables = variables_of_networks(model)
    _check_shapes(model, variables, source)
    assign(variables, source.arrays)
    for network in (model.online, model.target):
        take_statistics(network)
    _check_features(model.online, source, shape)


def _check_shapes(model, variables, source):
    own = _by_network({name: tuple(v.shape) for name, v in variables.items()})
    other = _by_network({name: array.shape for name, array in source.arrays.items()})
    if own == other:
        return
    heads = len(model.online.projector.variables)
    backbones = own["online"][:-heads], other["online"][:-heads]
    if backbones[0] != backbones[1]:
        _refuse_backbone(model.online.backbone, *backbones, source)
    for network in ("online", "predictor"):
        _refuse_sizes(_sizes(own[network][-heads:]), _sizes(other[network][-heads:]))
    raise ValueError(
        "train.model_fn must build the projector and predictor of train.start_from. "
        f"Received: heads with other weights than those in {source.path}"
    )


def _by_network(shapes):
    """Network -> the shapes of its variables, in order."""
    found = {}
    for name in sorted(shapes):
        found.setdefault(name.partition("/")[0], []).append(shapes[name])
    return found


def _refuse_backbone(backbone, own, other, source):
    """Raises the error for a backbone with weights of other shapes."""
    differing = [
        (variable.path, here, there)
        for variable, here, there in zip(backbone.variables, own, other, strict=False)
        if here != there
    ]
    found = f"{len(own)} variables, there {len(other)}"
    if differing:
        path, here, there = differing[0]
        found = f"{path} of shape {here}, there {there}"
        if len(here) == len(there) == 4 and _but_channels(here) == _but_channels(there):
            raise ValueError(
                "train.start_from must be a run on images with the channels of the "
                f"data, {here[2]}. Received: {source.path}, on {there[2]}"
            )
    raise ValueError(f"{_rule_of_backbone(source)}. Received: {found}")


def _but_channels(shape):
    """The shape of a kernel, without its input channels."""
    return shape[:2] + shape[3:]


def _rule_of_backbone(source):
    return (
        "train.backbone_fn must build the backbone of train.start_from, as "
        f"{RunFolder(source.path).config} does"
    )


def _sizes(shapes):
    """Hidden and output units of an `mlp_head`; None for another head."""
    if tuple(map(len, shapes)) != _HEAD:
        return None
    return {
        "BYOL.hidden_units": shapes[0][1],
        "BYOL.output_units": shapes[-1][1],
    }


def _refuse_sizes(own, other):
    """Raises an error that names the sizes in which two heads differ."""
    if own is None or other is None or own == other:
        return
    names = [name for name in own if own[name] != other[name]]
    values, received = (
        ", ".join(str(sizes[name]) for name in names) for sizes in (other, own)
    )
    raise ValueError(
        f"{', '.join(names)} must be {values}, as in train.start_from; "
        f"{_BACKBONE_ALONE}. Received: {received}"
    )


def _check_features(online, source, shape):
    """Refuses a backbone that computes other features with the same weights.

    Strides, padding and the normalization of images show in no weight.
    """
    exported = RunFolder(source.path).backbone
    if not exported.is_file():
        return
    backbone = load_backbone(exported)
    variables = by_position({"online": backbone.variables})
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if any(source.arrays[name].shape != shape for name, shape in shapes.items()):
        return  # an export of something else
    assign(variables, source.arrays)
    take_statistics(backbone)
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    there, here = (_features(x, images) for x in (backbone, online.backbone))
    limit = _tolerance(backbone, online.backbone) * np.abs(there).max()
    if here.shape != there.shape or np.abs(here - there).max() > limit:
        raise ValueError(
            f"{_rule_of_backbone(source)}. Received: one that computes other features "
            "with the same weights (its strides, padding or normalization differ)"
        )


def _features(backbone, images):
    """h of images in inference mode, float32 `[B, D]`."""
    outputs = backbone(images, training=False)
    h = outputs["avgpool"] if isinstance(outputs, dict) else outputs
    return keras.ops.convert_to_numpy(h).astype(np.float32)


def _tolerance(*backbones):
    """Largest difference of equal networks, as a share of the largest feature."""
    layers = [layer for backbone in backbones for layer in backbone._flatten_layers()]
    is_exact = all(layer.compute_dtype == "float32" for layer in layers)
    return 1e-3 if is_exact else 0.05
