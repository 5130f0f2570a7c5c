"""Names of a ResNet's weights in other systems, and of the rest of their files.

A scheme maps each of our variables, such as `("stage2_block1_bn1", "gamma")`, to the
name of a tensor within a network. The prefix of the names in a file identifies the
network.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ANCHOR = ("stage2_block1_conv1", "kernel")
_LAYER = re.compile(r"stage(\d)_block(\d+)_(conv|bn|shortcut_conv|shortcut_bn)(\d?)")
_TORCH_VARIABLES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_HAIKU_VARIABLES = {
    "kernel": "w",
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "~/mean_ema/average",
    "moving_variance": "~/var_ema/average",
}


class Scheme(NamedTuple):
    """The names of one system.

    Args:
        title: name of the scheme in messages.
        padding: of the system's convolutions; an argument of `backbones.resnet50`.
        suffix: our layer and variable -> the end of the tensor's name.
        prefix_of: a network's prefix and our variable -> the prefix of the tensor.
        to_keras: a tensor and our variable -> the value of the variable.
        own: matches names, without their prefix, of the convolutional network.
    """

    title: str
    padding: str
    suffix: Callable[[str, str], str]
    prefix_of: Callable[[str, str], str]
    to_keras: Callable[[np.ndarray, str], np.ndarray]
    own: re.Pattern

    def name(self, prefix: str, layer: str, variable: str) -> str:
        """The name of a variable's tensor in the network with this prefix."""
        return self.prefix_of(prefix, variable) + self.suffix(layer, variable)


def torch_name(layer: str, variable: str) -> str:
    """torchvision's name: `("stage2_block1_bn1", "gamma")` -> "layer1.0.bn1.weight"."""
    variable = _TORCH_VARIABLES[variable]
    if layer.startswith("stem"):
        return f"{layer.removeprefix('stem_')}1.{variable}"
    stage, block, kind, number = _LAYER.fullmatch(layer).groups()
    part = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}.get(kind)
    return f"layer{int(stage) - 1}.{int(block) - 1}.{part or kind + number}.{variable}"


def _sequential_name(layer, variable):
    """The name in `Sequential(*resnet.children())` of torchvision's ResNet."""
    name = re.sub(
        r"^layer(\d)", lambda m: str(int(m[1]) + 3), torch_name(layer, variable)
    )
    return re.sub(r"^(conv|bn)1", lambda m: "0" if m[1] == "conv" else "1", name)


def _haiku_name(layer, variable):
    variable = _HAIKU_VARIABLES[variable]
    if layer.startswith("stem"):
        kind = {"stem_conv": "conv", "stem_bn": "batchnorm"}[layer]
        return f"initial_{kind}/{variable}"
    stage, block, kind, number = _LAYER.fullmatch(layer).groups()
    part = kind.replace("bn", "batchnorm") + (f"_{int(number) - 1}" if number else "")
    group, block = int(stage) - 2, int(block) - 1
    return f"block_group_{group}/~/block_{block}/~/{part}/{variable}"


def _same_prefix(prefix, variable):
    return prefix


def _haiku_prefix(prefix, variable):
    """The prefix of moving averages, which are in a tree beside the parameters."""
    if not variable.startswith("moving"):
        return prefix
    return re.sub(r"(online|target|backbone)_params/", r"\1_state/", prefix)


def _from_torch(tensor, variable):
    # [out, in, height, width] -> [height, width, in, out]
    if variable == "kernel" and tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor


def _from_haiku(tensor, variable):
    # [1, 1, 1, channels] -> [channels]
    if variable != "kernel" and tensor.shape[:-1] == (1, 1, 1):
        return tensor.reshape(-1)
    return tensor


SCHEMES = (
    Scheme(
        "torchvision",
        "torch",
        torch_name,
        _same_prefix,
        _from_torch,
        re.compile(r"(conv1|bn1|layer\d+\.\d+)\."),
    ),
    Scheme(
        "torchvision, without names of modules",
        "torch",
        _sequential_name,
        _same_prefix,
        _from_torch,
        re.compile(r"([01]|[4-7]\.\d+)\."),
    ),
    Scheme(
        "haiku",
        "same",
        _haiku_name,
        _haiku_prefix,
        _from_haiku,
        re.compile(r"(initial_|block_group_)"),
    ),
)

# Patterns of other tensors in a file, and the reason to leave each out. The first match
# counts. Counters may be inside of the network.
_COUNTERS = (
    (r"num_batches_tracked$", "counter of torch's BatchNorm"),
    (r"_ema/(hidden|counter)$", "moving average before haiku's correction"),
)
_OPTIMIZER = r"(^|[/.])(\w*opt_state|optimizers?|optimizer_states?)[/.]"
_OTHERS = (
    (_OPTIMIZER, "state of the optimizer"),
    (r"(^|[/._])(predictor|prediction)", "predictor"),
    (r"(^|[/._])(projector|projection|neck|mlp)", "projector"),
    (r"(^|[/.])(online|target)_net\.(module\.)?1\.", "projector"),
    (
        r"(^|[/._])(fc|classifier|classif_params|linear|logits|head|last_layer)"
        r"([/.\d]|_momentum|$)",
        "classifier or head",
    ),
    (r"(^|[/._])queue", "queue of another method"),
    (r"(^|[/.])data_preprocessor\.", "normalisation of images; see mean and std"),
    (
        r"(^|[/.])(rng|step|steps|meta|message_hub|loops|callbacks|hyper_parameters"
        r"|lr_schedulers?|param_schedulers?|scaler)([/.]|$)",
        "state of the run",
    ),
)
_TARGET = re.compile(r"(^|[/._])(target|momentum|teacher|ema|encoder_k)([/._]|$)")


def is_optimizer(name: str) -> bool:
    """Whether a tensor is state of an optimizer, whose names repeat the weights'."""
    return bool(re.search(_OPTIMIZER, name))


def is_target(prefix: str) -> bool:
    """Whether a prefix belongs to a target network (momentum encoder)."""
    return bool(_TARGET.search(prefix))


def reason_to_leave_out(name: str, inside: bool) -> str | None:
    """Why a tensor is no weight of the backbone; None if the tensor is not known.

    Args:
        name: in the file.
        inside: bool. Whether the name belongs to the convolutional network.
    """
    rules = _COUNTERS if inside else _COUNTERS + _OTHERS
    for pattern, reason in rules:
        if re.search(pattern, name):
            return reason
    return None
