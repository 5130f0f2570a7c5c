"""Backbones of `keras.applications`, with images in 0..1 and named features."""

import gin
import keras
from keras import layers

from byol_keras.networks import batch_norms, synchronize
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints

# Modules whose networks scale images in 0..255 themselves.
_SCALED_INSIDE = ("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3")
# Every stride of a network divides it, and no padded map has a size that it divides.
_PROBE_SIZE = 256
# As in backbones.py. With the 0.999 of MobileNetV3, features of a run of 86 steps
# were constant in inference: its moving statistics were still those of the start.
_MOMENTUM = 0.9
_FEATURES = {2**n: f"feature{n}" for n in range(1, 6)}


@gin.register(module="byol_keras")
def keras_application(
    channels: int = 3, name: str = "ResNet50", weights: str | None = None
) -> keras.Model:
    """Builds a network of `keras.applications` as a backbone.

    The model takes float32 images `[B, H, W, channels]`, values in 0..1, scales them as
    the network expects, and returns a dict of float32 tensors: `avgpool` `[B, D]`, and
    those of `feature1` to `feature5` `[B, h, w, c]` that the network has. `feature<n>`
    is its last map of stride 2^n; ConvNeXt has none of stride 2, and maps inside of
    blocks may be below 0. BatchNormalization is synchronized over replicas.

    Args:
        channels: int. Channels of the images. Defaults to 3.
        name: name of the network in `keras.applications`, such as "EfficientNetV2B0".
            Defaults to "ResNet50".
        weights: None (random), "imagenet" (Keras downloads them; needs 3 channels), or
            path of a file of weights without the classifier. Defaults to None.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: for an unknown name, or weights that cannot be loaded.

    Source: keras.applications, whose docstrings name the papers.
    Deviation: BatchNormalization has momentum 0.9, in place of 0.99 or 0.999, which are
        made for runs of many thousand steps. With other than 3 channels, networks that
        subtract ImageNet's means get images in -1..1.
    """
    check_positive_ints(channels=channels)
    module = _module_of(name)
    network = _network(name, channels, weights)
    images = keras.Input((None, None, int(channels)), name="images")
    outputs = _extractor(network)(_scaled(images, module))
    features = {
        key: layers.Identity(dtype="float32", name=key)(x) for key, x in outputs.items()
    }
    backbone = keras.Model(images, features, name=network.name)
    backbone.has_trained_weights = weights is not None
    synchronize(backbone)
    for layer in batch_norms(backbone):
        layer.momentum = _MOMENTUM
    return backbone


def _module_of(name):
    """The module of `keras.applications` that has the scaling of a network."""
    # Its module does not have their names.
    modules = {f"MobileNetV3{size}": "mobilenet_v3" for size in ("Small", "Large")}
    for module_name, module in sorted(vars(keras.applications).items()):
        if hasattr(module, "preprocess_input"):
            names = (x for x in vars(module) if x[0].isupper())
            modules.update(dict.fromkeys(names, module_name))
    check_choice("name", name, sorted(modules))
    return modules[name]


def _network(name, channels, weights):
    build = getattr(keras.applications, name)
    try:
        return build(
            include_top=False,
            weights=weights,
            input_shape=(None, None, int(channels)),
            pooling="avg",
        )
    except Exception as error:
        if weights is None:
            raise
        reason = " ".join(f"{error}".split())
        raise ValueError(
            'weights must be None, "imagenet", which Keras downloads, or a file of '
            f"weights of {name} for {channels} channels ({reason}). "
            f"Received: {weights!r}"
        ) from error


def _scaled(images, module):
    """Images in 0..1 in the range of a module's networks."""
    channels = images.shape[-1]
    inside = module in _SCALED_INSIDE and (channels == 3 or module != "convnext")
    if inside:
        return layers.Rescaling(255.0, dtype="float32", name="scaling")(images)
    if channels != 3:
        return layers.Rescaling(2.0, -1.0, dtype="float32", name="scaling")(images)
    return getattr(keras.applications, module).preprocess_input(255.0 * images)


def _extractor(network):
    """A network that returns its last map of each stride, and its output."""
    tensors = [
        layer.output
        for layer in network.layers
        if isinstance(layer.output, keras.KerasTensor) and len(layer.output.shape) == 4
    ]
    shape = (1, _PROBE_SIZE, _PROBE_SIZE, network.input.shape[-1])
    shapes = keras.Model(network.input, tensors).compute_output_shape(shape)
    strides = [_PROBE_SIZE / height for _, height, _, _ in shapes]
    last = dict(zip(strides, tensors, strict=True))
    features = {
        name: last[stride] for stride, name in _FEATURES.items() if stride in last
    }
    return keras.Model(network.input, {**features, "avgpool": network.output})
