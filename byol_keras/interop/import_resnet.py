"""Builds one of our ResNets from the named arrays of another system.

Each array of a file is either assigned to a variable of the backbone, or left out for a
reason that is reported. Any other array is an error that names it.
"""

import collections
import json
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from byol_keras import backbones
from byol_keras.interop.files import ForeignFile
from byol_keras.interop.names import (
    ANCHOR,
    SCHEMES,
    Scheme,
    is_optimizer,
    is_target,
    reason_to_leave_out,
)

# Kernel size -> stem. A 3x3 stem of a torch system is "cifar".
_STEMS = {7: "imagenet", 3: "cifar"}
_MOST_BLOCKS = 99
# Key of our settings in the metadata of a safetensors file.
METADATA = "byol_keras"
# Names of tensors in one error.
_SHOWN = 8


class Network(NamedTuple):
    """One ResNet of a file: the scheme of its names, and their prefix."""

    scheme: Scheme
    prefix: str


class Imported(NamedTuple):
    """A backbone, and where its weights come from.

    Args:
        kind: of the file; see `ForeignFile`.
        backbone: `keras.Model`.
        network: the ResNet of the file that was read.
        settings: the arguments of the builder, and `depth`.
        used: names of the tensors in the backbone -> their types in the file.
        left_out: names of the other tensors -> the reason to leave them out.
    """

    kind: str
    backbone: keras.Model
    network: Network
    settings: dict
    used: dict[str, str]
    left_out: dict[str, str]


def import_backbone(
    file: ForeignFile,
    network: str = "online",
    stem: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    leave_out: Sequence[str] = (),
) -> Imported:
    """Builds the ResNet of a file, with its weights.

    Depth, width, stem, channels and padding follow from names and shapes.

    Args:
        file: a `ForeignFile`, from `read_file`.
        network: "online" (or the only network), "target", or the prefix of its tensors.
        stem: see `backbones.resnet50`. Defaults to "imagenet" for a kernel of 7x7, and
            to "cifar" for 3x3.
        mean: numbers on the 0..1 scale, one per channel or one for all; see `resnet50`.
            Defaults to ImageNet's for 3 channels.
        std: likewise.
        leave_out: prefixes of names of tensors to leave out, outside of the network.

    Raises:
        ValueError: if the file has no such network, if a tensor is missing, has a
            shape that does not fit, is not of floats, or is not known.
    """
    chosen, others = _choose(_networks(file.arrays), network, file.arrays)
    settings = _architecture(file, chosen, stem, mean, std)
    builder = getattr(backbones, f"resnet{settings['depth']}")
    backbone = builder(**{k: v for k, v in settings.items() if k != "depth"})
    variables = variables_of(backbone)
    names = {chosen.scheme.name(chosen.prefix, *key): key for key in variables}
    left_out = _left_out(file.arrays, names, chosen, others, leave_out)
    _refuse("all tensors of its network", "without", set(names) - set(file.arrays))
    surplus = set(file.arrays) - set(names) - set(left_out)
    _refuse("known tensors only; see leave_out", "with", surplus)
    _assign(file.arrays, chosen.scheme, names, variables)
    used = {name: str(file.arrays[name].dtype) for name in names}
    return Imported(file.kind, backbone, chosen, settings, used, left_out)


def variables_of(
    backbone: keras.Model,
) -> dict[tuple[str, str], keras.Variable]:
    """The variables that ResNets of other systems have too, by layer and name."""
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)
    return {
        (layer.name, variable.name): variable
        for layer in backbone.layers
        if isinstance(layer, kinds)
        for variable in layer.variables
    }


def _networks(names):
    """All ResNets of a file."""
    found = []
    for scheme in SCHEMES:
        anchor = scheme.suffix(*ANCHOR)
        for name in names:
            prefix = name.removesuffix(anchor)
            starts = prefix == "" or prefix[-1] in "./"
            if prefix != name and starts and not is_optimizer(name):
                found.append(Network(scheme, prefix))
    return found


def _choose(found, wanted, names):
    """The requested network, and the others."""
    if not found:
        anchors = " or ".join(scheme.suffix(*ANCHOR) for scheme in SCHEMES)
        raise ValueError(
            f"file must hold a ResNet: a tensor whose name ends in {anchors}. "
            f"Received: {_some(names) or 'no tensors'}"
        )
    if wanted in ("online", "target"):
        of_kind = [n for n in found if is_target(n.prefix) == (wanted == "target")]
        if not of_kind and wanted == "online":
            of_kind = found
    else:
        of_kind = [n for n in found if n.prefix == wanted]
    if len(of_kind) != 1:
        known = ", ".join(repr(network.prefix) for network in found)
        raise ValueError(
            'network must be "online" or "target", if the file has exactly one, or one '
            f"of {known}. Received: {wanted!r}"
        )
    return of_kind[0], [network for network in found if network != of_kind[0]]


def _architecture(file, network, stem, mean, std):
    """Arguments of the builder, from names and shapes."""
    scheme, prefix = network

    def has(block, numbers):
        layers = [f"{block}_conv{number}" for number in numbers]
        return any(scheme.name(prefix, n, "kernel") in file.arrays for n in layers)

    blocks = range(1, _MOST_BLOCKS)
    sizes = tuple(
        max((b for b in blocks if has(f"stage{stage}_block{b}", (1, 2))), default=0)
        for stage in (2, 3, 4, 5)
    )
    bottleneck = has("stage2_block1", (3,))
    depths = [
        d for d, known in backbones.DEPTHS.items() if known == (bottleneck, sizes)
    ]
    if not depths:
        kind = "bottleneck" if bottleneck else "basic"
        raise ValueError(
            f"file must hold a ResNet of {', '.join(map(str, backbones.DEPTHS))} "
            f"layers. Received: {kind} blocks {sizes}"
        )
    name = scheme.name(prefix, "stem_conv", "kernel")
    _refuse("all tensors of its network", "without", {name} - set(file.arrays))
    kernel = scheme.to_keras(file.arrays[name], "kernel")
    if kernel.ndim != 4 or kernel.shape[0] not in _STEMS:
        raise ValueError(
            "file must have a 7x7 or a 3x3 convolution as the stem. "
            f"Received: {name} of shape {file.arrays[name].shape}"
        )
    stored = json.loads(file.metadata.get(METADATA, "{}"))
    channels = kernel.shape[2]
    settings = {
        "depth": depths[0],
        "channels": channels,
        "width": kernel.shape[3] / 64,
        "stem": stem or stored.get("stem") or _STEMS[kernel.shape[0]],
        "padding": scheme.padding,
        "mean": _per_channel(mean, channels) or stored.get("mean"),
        "std": _per_channel(std, channels) or stored.get("std"),
    }
    if channels != 3 and not (settings["mean"] and settings["std"]):
        raise ValueError(
            f"mean and std must be given for images of {channels} channels. "
            "Received: none"
        )
    return settings


def _per_channel(values, channels):
    return list(values) * channels if values and len(values) == 1 else values


def _left_out(arrays, names, chosen, others, leave_out):
    """The reason for each tensor that is not part of the chosen network."""
    found = {}
    for name in sorted(set(arrays) - set(names)):
        inside = _is_inside(name, chosen)
        if not inside and name.startswith(tuple(leave_out)):
            found[name] = "requested by leave_out"
            continue
        reason = reason_to_leave_out(name, inside)
        owner = next((n for n in others if _is_inside(name, n)), None)
        if reason is None and owner and not inside:
            kind = "target network" if is_target(owner.prefix) else "another network"
            reason = f"{kind}, {owner.prefix}"
        if reason:
            found[name] = reason
    return found


def _is_inside(name, network):
    """Whether a tensor's name belongs to a network's convolutional part."""
    scheme, prefix = network
    for start in {prefix, scheme.prefix_of(prefix, "moving_mean")}:
        if name.startswith(start) and scheme.own.match(name[len(start) :]):
            return True
    return False


def _assign(arrays, scheme, names, variables):
    """Assigns the tensors to the variables, after a check of all shapes."""
    values, wrong = {}, []
    for name, key in names.items():
        values[key] = scheme.to_keras(arrays[name], key[1])
        if not np.issubdtype(arrays[name].dtype, np.floating):
            wrong.append(f"{name} of {arrays[name].dtype}")
        elif values[key].shape != tuple(variables[key].shape):
            due = tuple(variables[key].shape)
            wrong.append(f"{name} of shape {values[key].shape}, not {due}")
    _refuse("tensors of the shapes of its architecture", "with", wrong)
    for key, variable in variables.items():
        variable.assign(values[key].astype(np.float32))


def _refuse(rule, relation, names):
    if names:
        raise ValueError(f"file must have {rule}. Received: {relation} {_some(names)}")


def _some(names):
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def summary(imported: Imported) -> dict:
    """What each tensor of a file was used for, as JSON.

    Returns:
        A dict: `network` and `names` identify the network of the file, `settings` are
        the arguments of the builder, `used` maps tensors to their types in the file,
        `left_out` maps reasons to names.
    """
    reasons = collections.defaultdict(list)
    for name, reason in imported.left_out.items():
        reasons[reason].append(name)
    return {
        "network": imported.network.prefix,
        "names": imported.network.scheme.title,
        "settings": imported.settings,
        "used": imported.used,
        "left_out": dict(reasons),
    }
