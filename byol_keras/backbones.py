"""ResNet v1 backbones: images in, named features out.

The models are functional and use Keras' own layers only, so a saved model loads
without this package. Layer names are part of the interface: `stem_conv`, `stem_bn`,
`stage2_block1_conv1`, `stage2_block1_bn1`, `stage3_block1_shortcut_conv`, ... The
output of stage n is `feature<n>`.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple

import gin
import keras
import numpy as np
from keras import layers

from byol_keras.runtime.argument_checks import check_choice, check_positive_ints

# Depth -> (uses bottleneck blocks, numbers of blocks in stages 2 to 5).
# Source: He et al. 2016, table 1; ResNet-200 as in DeepMind's byol/utils/networks.py.
DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
    200: (True, (3, 24, 36, 3)),
}

# Stem -> (kernel size, stride, followed by a max-pool).
_STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False), "small": (3, 2, False)}

_PADDINGS = ("same", "torch")

# Keras divides sigma by the standard deviation of a unit normal truncated at two
# sigma, to correct for the truncation. DeepMind does not: the scale undoes it.
_TRUNCATED_STD = 0.87962566103423978

DEEPMIND_KERNEL = {
    "scale": _TRUNCATED_STD**2,
    "mode": "fan_in",
    "distribution": "truncated_normal",
}
_INITIALIZERS = {
    "deepmind": DEEPMIND_KERNEL,
    "mmselfsup": {
        "scale": 2.0,
        "mode": "fan_out",
        "distribution": "untruncated_normal",
    },
}

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class _Recipe(NamedTuple):
    """Options that all blocks of a network share."""

    padding: str
    initializer: str
    zero_last_gamma: bool


def _conv_bn(x, filters, kernel_size, stride, names, recipe, gamma="ones"):
    """Convolution without bias, then BatchNormalization; `names` such as "stem_{}"."""
    padding = "same"
    # "same" and torch differ only for strides, where "same" pads unevenly.
    if recipe.padding == "torch" and kernel_size > 1 and stride > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=names.format("pad"))(x)
        padding = "valid"
    x = layers.Conv2D(
        filters,
        kernel_size,
        stride,
        padding=padding,
        use_bias=False,
        # One object per layer: a shared one would draw the same numbers for all.
        kernel_initializer=keras.initializers.VarianceScaling(
            **_INITIALIZERS[recipe.initializer]
        ),
        name=names.format("conv"),
    )(x)
    return layers.BatchNormalization(
        momentum=0.9,
        epsilon=1e-5,
        gamma_initializer=gamma,
        synchronized=True,
        name=names.format("bn"),
    )(x)


def _block(x, filters, stride, bottleneck, name, recipe):
    """One residual block; the output of a bottleneck has `4 * filters` channels."""
    if bottleneck:
        convs = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
    else:
        convs = [(filters, 3, stride), (filters, 3, 1)]
    shortcut = x
    channels = convs[-1][0]
    if stride > 1 or x.shape[-1] != channels:
        names = f"{name}_shortcut_{{}}"
        shortcut = _conv_bn(x, channels, 1, stride, names, recipe)
    for i, (conv_filters, kernel_size, conv_stride) in enumerate(convs, start=1):
        last = i == len(convs)
        gamma = "zeros" if last and recipe.zero_last_gamma else "ones"
        names = f"{name}_{{}}{i}"
        x = _conv_bn(x, conv_filters, kernel_size, conv_stride, names, recipe, gamma)
        if last:
            x = layers.Add(name=f"{name}_add")([x, shortcut])
        x = layers.ReLU(name=f"{name}_relu{i}")(x)
    return x


def _max_pool(x, padding):
    """3x3 max-pool of stride 2."""
    if padding == "torch":
        # After a ReLU no value is below 0, so zeros have the same effect as torch's
        # padding with minus infinity.
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        return layers.MaxPooling2D(3, 2, padding="valid", name="stem_pool")(x)
    return layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)


def _float32(x, name):
    """Names an output and casts it to float32."""
    return layers.Identity(dtype="float32", name=name)(x)


def _features(x, depth, width, stem, recipe):
    """The network after the normalisation; a dict of its outputs."""
    bottleneck, stage_sizes = DEPTHS[depth]
    kernel_size, stem_stride, pool = _STEMS[stem]
    filters = [max(1, round(64 * 2**i * width)) for i in range(4)]
    x = _conv_bn(x, filters[0], kernel_size, stem_stride, "stem_{}", recipe)
    x = layers.ReLU(name="stem_relu")(x)
    features = {"feature1": _float32(x, "feature1")}
    if pool:
        x = _max_pool(x, recipe.padding)
    for stage, blocks in enumerate(stage_sizes, start=2):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            block_name = f"stage{stage}_block{block}"
            x = _block(x, filters[stage - 2], stride, bottleneck, block_name, recipe)
        features[f"feature{stage}"] = _float32(x, f"feature{stage}")
    average = layers.GlobalAveragePooling2D(dtype="float32", name="avgpool")
    features["avgpool"] = average(features["feature5"])
    return features


def _per_channel(argument, value, rgb_default, default, channels):
    """`value`, or its default if None, as a tuple of one number per channel."""
    if value is None:
        return rgb_default if channels == 3 else (default,) * channels
    if np.shape(value) != (channels,):
        raise ValueError(
            f"{argument} must have one number for each of the {channels} channels. "
            f"Received: {value!r}"
        )
    return tuple(float(number) for number in value)


def _normalization(channels, mean, std):
    """Layer that scales images in 0..1 to about zero mean and unit variance."""
    mean = _per_channel("mean", mean, _IMAGENET_MEAN, 0.5, channels)
    std = _per_channel("std", std, _IMAGENET_STD, 0.25, channels)
    if min(std) <= 0:
        raise ValueError(f"std must be positive. Received: {std!r}")
    return layers.Normalization(
        mean=mean,
        variance=tuple(value**2 for value in std),
        dtype="float32",
        name="normalization",
    )


_DOCSTRING = """Builds a ResNet-{depth} v1, with the stride on the 3x3 convolutions.

    The model takes float32 images `[B, H, W, channels]`, values in 0..1, and returns a
    dict of float32 tensors, under any precision policy: `feature1` (stem, before the
    max-pool), `feature2` to `feature5` (stages) `[B, h, w, c]`, all 0 or more, and
    `avgpool` `[B, D]`, the mean of `feature5` over height and width.

    Args:
        channels: int. Channels of the images. Defaults to 3.
        width: float. Multiplies the channels of the stem and of every stage; the
            products are rounded. Defaults to 1.0.
        stem: "imagenet" (7x7 convolution of stride 2, max-pool 3x3 of stride 2),
            "cifar" (3x3 of stride 1, no pool) or "small" (3x3 of stride 2, no pool: a
            quarter of the cost of "cifar", for images of 28 to 64 pixels on a CPU).
            Defaults to "imagenet".
        padding: "same" (as TensorFlow and DeepMind, with more padding at the right and
            bottom) or "torch" (symmetric; needed for ported torch weights).
            Defaults to "same".
        zero_last_gamma: bool. Whether the last BatchNormalization of each block starts
            with gamma 0, so that the block starts as the identity. Defaults to False.
        initializer: "deepmind" (normal of sigma 1 / sqrt(fan_in), truncated at two
            sigma) or "mmselfsup" (normal of sigma sqrt(2 / fan_out)). Defaults to
            "deepmind".
        mean: numbers, one per channel, on the 0..1 scale; subtracted from the images.
            Defaults to ImageNet's for 3 channels, else to 0.5.
        std: numbers, one per channel; divides the images after that. Defaults to
            ImageNet's for 3 channels, else to 0.25.
        name: name of the model. Defaults to "resnet{depth}".

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if an argument is not among the values listed here.

    Source: He et al. 2016; byol/utils/networks.py of DeepMind's BYOL and haiku's ResNet
    for padding, initialiser, width and BatchNormalization (decay 0.9, epsilon 1e-5).
    Deviation: DeepMind's code starts the last gamma of a bottleneck at 0. The results
    of the paper were obtained with 1, the default here. A block that changes the shape
    has a projection, as in torchvision and haiku; DeepMind's BYOL also has one in the
    first block of ResNet-18 and ResNet-34. Moving statistics are not zero-debiased.
    """


def _builder(depth: int) -> Callable[..., keras.Model]:
    """Returns the public function `resnet<depth>`; all have the same signature."""

    def build(
        channels: int = 3,
        width: float = 1.0,
        stem: str = "imagenet",
        padding: str = "same",
        zero_last_gamma: bool = False,
        initializer: str = "deepmind",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        name: str | None = None,
    ) -> keras.Model:
        check_positive_ints(channels=channels)
        if not (isinstance(width, Real) and width > 0):
            raise ValueError(f"width must be a positive number. Received: {width!r}")
        check_choice("stem", stem, _STEMS)
        check_choice("padding", padding, _PADDINGS)
        check_choice("initializer", initializer, _INITIALIZERS)
        normalization = _normalization(channels, mean, std)
        recipe = _Recipe(padding, initializer, zero_last_gamma)
        shape = (None, None, int(channels))
        images = keras.Input(shape, dtype="float32", name="images")
        features = _features(normalization(images), depth, width, stem, recipe)
        return keras.Model(images, features, name=name or f"resnet{depth}")

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = _DOCSTRING.format(depth=depth)
    return gin.register(module="byol_keras")(build)


resnet18 = _builder(18)
resnet34 = _builder(34)
resnet50 = _builder(50)
resnet101 = _builder(101)
resnet152 = _builder(152)
resnet200 = _builder(200)
