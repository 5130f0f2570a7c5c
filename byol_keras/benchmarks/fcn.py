"""FCN: a dilated twin of any backbone with two heads of logits per pixel."""

import itertools
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.finetune import trainable_copy
from byol_keras.benchmarks.segmentation_metrics import IGNORED

_DILATED = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
_POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
# A multiple of every output stride, to see what a twin does to the size of an image.
_PROBE = 256
# So that models of neighbouring seeds share none of their layers' seeds.
_SEEDS_PER_MODEL = 16


class _Grid(NamedTuple):
    """Pixels between two values of a map in the twin, and strides it has given up."""

    stride: int = 1
    rate: int = 1


def dilated_twin(backbone: keras.Model, output_stride: int = 8) -> keras.Model:
    """The same layers and weights on a finer grid of `feature4` and `feature5`.

    A stride that would take the maps beyond `output_stride` becomes 1, and every
    later kernel is dilated by the strides given up before it. Every n-th value of the
    twin's maps, n being the strides given up, is then the backbone's own value. In a
    ResNet of bottlenecks that is "contracted" dilation: 1, then 2 in the other blocks
    of `feature4`; 2, then 4 in those of `feature5`.

    Args:
        backbone: functional `keras.Model` of single layers, float32 `[B, H, W, C]` ->
            dict with `feature4` and `feature5`. It is not changed.
        output_stride: int. Pixels between two values of the twin's maps.

    Returns:
        A functional model of layers of the same names, images -> [feature4, feature5].
        All weights are trainable, in float32 where they were in float16, and
        BatchNormalization is synchronised over replicas.

    Raises:
        ValueError: for a backbone that cannot be copied or dilated.

    Source: mmsegmentation 0.x, `ResNetV1c` with `contract_dilation`.
    Deviation: in blocks of two 3x3 convolutions the second one is dilated too, which
        keeps the backbone's own function; mmsegmentation leaves it undilated.
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
        clone_function=_synchronized,
        call_function=dilation,
    )
    strides = [dilation.grids[id(maps)].stride for maps in twin.outputs]
    _check_sizes(twin, strides, backbone.name)
    for layer in (layer for layer in part.layers if layer.weights):
        twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def _synchronized(layer):
    """A copy without weights, whose statistics are those of all replicas."""
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        config["synchronized"] = True
    return type(layer).from_config(config)


class _Dilation:
    """Calls copied layers in the order of the graph, and dilates them on the way."""

    def __init__(self, output_stride):
        self.output_stride = output_stride
        self.grids = {}  # of tensors by their id; the graph keeps the tensors alive

    def __call__(self, layer, *args, **kwargs):
        if isinstance(layer, keras.Model):
            raise ValueError(
                "backbone must be made of single layers, not of models, to be dilated. "
                f"Received: {layer.name!r} in it"
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
            "backbone must have the same stride over height and width. "
            f"Received: {layer.strides} in {layer.name!r}"
        )
    return layer.strides[0]


def _same_pads(kernel_size, stride, rate):
    """Zeros before and after, so that strides of the result are the strided result.

    "same" pads a strided kernel by `kernel_size - stride` values in all, of which the
    odd one comes after, for maps that the stride divides.
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
            "backbone must pad its maps, to one value for each stride. "
            f"Received: {name!r}, whose twin has maps of {sizes} at strides of "
            f"{strides} for images of {_PROBE} pixels"
        )


def segmenter(
    backbone: keras.Model,
    num_classes: int,
    output_stride: int = 8,
    channels: int = 512,
    auxiliary_channels: int = 256,
    dropout: float = 0.1,
    seed: int = 0,
) -> keras.Model:
    """FCN: the dilated twin of a backbone, and two heads.

    Args:
        backbone, output_stride: see `dilated_twin`.
        num_classes: int.
        channels: int. Of the main head, on `feature5`.
        auxiliary_channels: int. Of the auxiliary head, on `feature4`.
        dropout: float in 0..1. Share of whole maps that are dropped before the logits.
        seed: int. Of the heads' first weights and of the dropout.

    Returns:
        A functional model, images float32 `[B, H, W, C]` in 0..1 -> dict of float32
        logits `main` and `auxiliary` `[B, h, w, num_classes]`.

    Source: mmsegmentation 0.x, `fcn_r50-d8`, FCNHead with 2 convolutions and the
        concatenated input, and with 1 convolution.
    """
    seeds = itertools.count(_SEEDS_PER_MODEL * seed)
    twin = dilated_twin(backbone, output_stride)
    feature4, feature5 = twin.outputs
    x = _conv_bn_relu(feature5, channels, "main_1", next(seeds))
    x = _conv_bn_relu(x, channels, "main_2", next(seeds))
    x = layers.Concatenate(name="main_concat")([feature5, x])
    x = _conv_bn_relu(x, channels, "main_3", next(seeds))
    main = _logits(x, num_classes, dropout, "main", seeds)
    x = _conv_bn_relu(feature4, auxiliary_channels, "auxiliary_1", next(seeds))
    auxiliary = _logits(x, num_classes, dropout, "auxiliary", seeds)
    return keras.Model(
        twin.inputs[0], {"main": main, "auxiliary": auxiliary}, name="fcn"
    )


def _conv_bn_relu(x, filters, name, seed):
    x = layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=seed
        ),
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=True, name=f"{name}_bn"
    )(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _logits(x, num_classes, dropout, name, seeds):
    x = layers.SpatialDropout2D(dropout, seed=next(seeds), name=f"{name}_dropout")(x)
    return layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(
            stddev=0.01, seed=next(seeds)
        ),
        dtype="float32",
        name=f"{name}_logits",
    )(x)


def resize_bilinear(maps, size, align_corners: bool) -> tf.Tensor:
    """Maps `[B, h, w, C]` interpolated to `size`, float32, without antialiasing.

    Args:
        maps: float32 or uint8 `[B, h, w, C]`.
        size: int32 `[2]`: height and width.
        align_corners: bool. Whether the centres of the corner values stay the corners,
            as in torch; otherwise the corners of the corner values do.
    """
    return tf.raw_ops.ResizeBilinear(
        images=maps,
        size=size,
        align_corners=align_corners,
        half_pixel_centers=not align_corners,
    )


class PixelLoss(keras.losses.Loss):
    """Cross-entropy per pixel, 0 where the label is 255, and its mean over all pixels.

    The mean divides by the number of all pixels, those with label 255 included.

    Args of a call:
        y_true: uint8 `[B, H, W]`.
        y_pred: float32 logits `[B, H, W, classes]`.

    Source: mmsegmentation 0.x, `losses/cross_entropy_loss.py` with
        `avg_non_ignore=False`.
    """

    def call(self, y_true, y_pred):
        labels = tf.cast(y_true, tf.int32)
        counted = labels != IGNORED
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.where(counted, labels, 0), logits=y_pred
        )
        return tf.where(counted, losses, 0.0)


class FCN(keras.Model):
    """Trains a `segmenter` on images and masks, through `fit`.

    Args:
        segmenter: see there.
        auxiliary_weight: float. Of the auxiliary head's loss.
        align_corners: bool. How logits are resized to the masks' size; see
            `resize_bilinear`.

    Source: mmsegmentation 0.x, `EncoderDecoder`.
    """

    def __init__(self, segmenter, auxiliary_weight=0.4, align_corners=False):
        super().__init__()
        self.segmenter = segmenter
        self.auxiliary_weight = auxiliary_weight
        self.align_corners = align_corners
        self.loss_fn = PixelLoss()
        self.loss_tracker = keras.metrics.Mean("loss")

    def call(self, images, training=None):
        """The main head's logits, float32 `[B, H, W, classes]`, at the images' size."""
        logits = self.segmenter(images, training=training)["main"]
        return resize_bilinear(logits, tf.shape(images)[1:3], self.align_corners)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # The network is built; Keras's own would trace it once more for nothing.
        pass

    def train_step(self, batch):
        images, masks = batch
        variables = self.segmenter.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.segmenter(images, training=True)
            loss = self._head_loss(masks, outputs["main"])
            auxiliary = self._head_loss(masks, outputs["auxiliary"])
            loss += self.auxiliary_weight * auxiliary
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        # A Keras loss is divided by the number of replicas, over which logs are means.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_tracker.update_state(loss)
        return {"loss": loss}

    def _head_loss(self, masks, logits):
        size = tf.shape(masks)[1:3]
        return self.loss_fn(masks, resize_bilinear(logits, size, self.align_corners))
