"""Dilated twin of a backbone: the same layers and weights on a finer grid."""

from typing import NamedTuple

import keras
from keras import layers

from byol_keras.benchmarks.trainable import trainable_copy

_DILATED = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
_POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
# Side of a probe image, a multiple of every output stride.
_PROBE = 256


class _Grid(NamedTuple):
    """Pixels between two values of a map of the twin, and strides replaced so far."""

    stride: int = 1
    rate: int = 1


def dilated_twin(backbone: keras.Model, output_stride: int = 8) -> keras.Model:
    """The same layers and weights with finer maps `feature4` and `feature5`.

    Strides beyond `output_stride` are set to 1, and later kernels are dilated by the
    product n of these strides. Every n-th value of the twin's maps then equals a value
    of the backbone's. In a ResNet of bottlenecks this is "contracted" dilation: 1 in
    the first block of `feature4` and 2 in its others; 2 in the first block of
    `feature5` and 4 in its others.

    Args:
        backbone: functional `keras.Model` of single layers, float32 `[B, H, W, C]` ->
            dict with `feature4` and `feature5`. It is not changed.
        output_stride: int. Pixels between two values of the twin's maps.

    Returns:
        A functional model with the same layer names, images -> [feature4, feature5].
        All weights are trainable, layers compute in the current precision, and
        BatchNormalization is synchronized over replicas.

    Raises:
        ValueError: for a backbone that cannot be copied or dilated.

    Source: mmsegmentation 0.x, `ResNetV1c` with `contract_dilation`.
    Deviation: in blocks of two 3x3 convolutions the second one is dilated too, which
        preserves the function of the backbone. mmsegmentation does not dilate it.
    """
    copy = trainable_copy(backbone)
    outputs = getattr(copy, "output", None)
    if not isinstance(outputs, dict) or not {"feature4", "feature5"} <= set(outputs):
        raise ValueError(
            "backbone must be a functional model that returns a dict with feature4 and "
            f"feature5. Received: {backbone.name!r}"
        )
    channels = copy.inputs[0].shape[-1]
    part = keras.Model(copy.inputs[0], [outputs["feature4"], outputs["feature5"]])
    dilation = _Dilation(output_stride)
    twin = keras.models.clone_model(
        part,
        input_tensors=keras.Input((None, None, channels), name="images"),
        clone_function=_trained_here,
        call_function=dilation,
    )
    strides = [dilation.grids[id(maps)].stride for maps in twin.outputs]
    _check_sizes(twin, strides, backbone.name)
    for layer in (layer for layer in part.layers if layer.weights):
        twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def _trained_here(layer):
    """A copy without weights, in the current precision, synchronized over replicas."""
    config = layer.get_config()
    if not isinstance(layer, layers.Normalization):
        config["dtype"] = keras.config.dtype_policy()
    if isinstance(layer, layers.BatchNormalization):
        config["synchronized"] = True
    return type(layer).from_config(config)


class _Dilation:
    """Calls copied layers in the order of the graph, dilated where needed."""

    def __init__(self, output_stride):
        self.output_stride = output_stride
        self.grids = {}  # tensor id -> grid; the graph keeps the tensors alive

    def __call__(self, layer, *args, **kwargs):
        if isinstance(layer, keras.Model):
            raise ValueError(
                "backbone must consist of layers without nested models to be dilated. "
                f"Received: the model {layer.name!r} in it"
            )
        inputs = keras.tree.flatten((args, kwargs))
        grids = [self.grids[id(x)] for x in inputs if id(x) in self.grids]
        grid = max(grids, default=_Grid())
        if isinstance(layer, _DILATED):
            outputs, grid = self._convolve(layer, args[0], grid)
        else:
            if isinstance(layer, _POOLS):
                grid = self._pooled(layer, grid)
            elif isinstance(layer, layers.ZeroPadding2D) and grid.rate > 1:
                layer = _remade(layer, padding=_scaled(layer.padding, grid.rate))
            outputs = layer(*args, **kwargs)
        for x in keras.tree.flatten(outputs):
            self.grids[id(x)] = grid
        return outputs

    def _convolve(self, layer, x, grid):
        stride = _single_stride(layer)
        if grid.stride * stride <= self.output_stride:
            wider = _Grid(grid.stride * stride, grid.rate)
            return _dilated(layer, grid.rate)(x), wider
        twin = _dilated(layer, grid.rate, strides=1, padding="valid")
        if layer.padding == "same":
            pads = [_same_pads(size, stride, grid.rate) for size in layer.kernel_size]
            if any(map(any, pads)):
                x = layers.ZeroPadding2D(pads, name=f"{layer.name}_twin_pad")(x)
        return twin(x), _Grid(grid.stride, grid.rate * stride)

    def _pooled(self, layer, grid):
        stride = grid.stride * _single_stride(layer)
        if stride > self.output_stride or grid.rate > 1:
            raise ValueError(
                f"backbone must not pool beyond an output stride of "
                f"{self.output_stride}. Received: {layer.name!r} in it"
            )
        return _Grid(stride)


def _dilated(layer, rate, **changes):
    if rate > 1:
        changes["dilation_rate"] = [rate * old for old in layer.dilation_rate]
    return _remade(layer, **changes) if changes else layer


def _remade(layer, **changes):
    return type(layer).from_config(layer.get_config() | changes)


def _single_stride(layer):
    if len(set(layer.strides)) > 1:
        raise ValueError(
            "backbone must have equal strides over height and width. "
            f"Received: {layer.strides} in {layer.name!r}"
        )
    return layer.strides[0]


def _same_pads(kernel_size, stride, rate):
    """Zeros before and after, so that the twin contains the strided result.

    For maps whose size is a multiple of the stride, "same" pads a strided kernel by
    `kernel_size - stride` values in total, with the odd one after the map.
    """
    before = max(kernel_size - stride, 0) // 2
    return rate * before, rate * (kernel_size - 1 - before)


def _scaled(padding, rate):
    return [[rate * size for size in sizes] for sizes in padding]


def _check_sizes(twin, strides, name):
    channels = twin.inputs[0].shape[-1]
    shapes = twin.compute_output_shape((1, _PROBE, _PROBE, channels))
    sizes = [tuple(shape[1:3]) for shape in shapes]
    if sizes != [(_PROBE // stride, _PROBE // stride) for stride in strides]:
        raise ValueError(
            "backbone must pad its maps to one value per stride. "
            f"Received: {name!r}, whose twin has maps of {sizes} at strides of "
            f"{strides} for images of {_PROBE} pixels"
        )
