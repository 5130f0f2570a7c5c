"""FCN: the dilated twin of a backbone with two heads that return logits per pixel."""

import itertools

import keras
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.segmentation.dilation import dilated_twin
from byol_keras.benchmarks.segmentation.metrics import IGNORED

# Models of neighboring seeds do not share the seeds of their layers.
_SEEDS_PER_MODEL = 16


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
        dropout: float in 0..1. Share of whole maps dropped before the logits.
        seed: int. Of the heads' initial weights and of dropout.

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
        align_corners: bool. As in torch: whether the centers of the corner pixels are
            aligned, instead of the outer edges of the corner pixels.
    """
    return tf.raw_ops.ResizeBilinear(
        images=maps,
        size=size,
        align_corners=align_corners,
        half_pixel_centers=not align_corners,
    )


class PixelLoss(keras.losses.Loss):
    """Mean cross-entropy over the pixels, with a loss of 0 where the label is 255.

    The mean divides by the number of all pixels, including those with label 255.

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
        segmenter: model of the function `segmenter`.
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
        # The network is built. Keras's own version would only trace it once more.
        pass

    def train_step(self, batch):
        images, masks = batch
        variables = self.segmenter.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.segmenter(images, training=True)
            loss = self._head_loss(masks, outputs["main"])
            auxiliary = self._head_loss(masks, outputs["auxiliary"])
            loss += self.auxiliary_weight * auxiliary
            scaled = self.optimizer.scale_loss(loss)
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        # Keras divides a loss by the number of replicas, and averages logs over them.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_tracker.update_state(loss)
        return {"loss": loss}

    def _head_loss(self, masks, logits):
        size = tf.shape(masks)[1:3]
        return self.loss_fn(masks, resize_bilinear(logits, size, self.align_corners))
