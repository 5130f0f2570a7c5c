"""Mask R-CNN on a feature pyramid, with BatchNormalization after convolutions."""

import gin
import keras
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.detection.region_ops import Regions
from byol_keras.benchmarks.detection.two_stage import (
    TwoStageDetector,
    batch_norm,
    box_outputs,
    he_normal,
    rpn_head,
    trainable_backbone,
)

BOX_SIZE, MASK_SIZE = 7, 14
STRIDES = {"feature2": 4, "feature3": 8, "feature4": 16, "feature5": 32}
RPN_LEVELS = ("2", "3", "4", "5", "6")
ROI_LEVELS = RPN_LEVELS[:-1]  # P6 is for the largest anchors only


@gin.register(module="byol_keras")
class MaskRCNNFPN(TwoStageDetector):
    """Mask R-CNN on a feature pyramid. All its weights are trained.

    Args:
        backbone: functional `keras.Model` with `feature2` to `feature5` of strides 4 to
            32; see `trainable_backbone`. It is copied.
        num_classes: int. Without the background.
        image_size: (height, width) of the canvas that holds every image.
        regions: `Regions` with levels 2 to 6.
        channels: int. Of the pyramid and of all convolutions on it.
        convs: int. Number of convolutions of the box head and of the mask head.
        units: int. Of the box head's dense layer.

    Raises:
        ValueError: for a backbone that does not fit, with a list of the differences.

    Source: mmselfsup 0.x `mask_rcnn_r50_fpn_mstrain_1x_coco.py`.
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        image_size: tuple[int, int],
        regions: Regions = gin.REQUIRED,
        channels: int = 256,
        convs: int = 4,
        units: int = 1024,
    ):
        super().__init__(num_classes, image_size, regions)
        backbone = trainable_backbone(backbone, STRIDES)
        outputs = [backbone.output[name] for name in STRIDES]
        self.backbone = keras.Model(backbone.input, outputs, name="backbone")
        self.neck = _neck([maps.shape[-1] for maps in outputs], channels)
        self.rpn = rpn_head(channels, channels, regions.anchors_per_cell)
        self.box_head = _box_head(channels, convs, units, num_classes)
        self.mask_head = _mask_head(channels, convs, num_classes)
        self.built = True

    def pyramid(self, images, training):
        """Maps P2 to P6 by level."""
        maps = self.backbone(images, training=training)
        maps = self.neck(maps, training=training)
        return dict(zip(RPN_LEVELS, maps, strict=True))

    def classify(self, maps, rois, training):
        """Logits and offsets of proposals `[B, K, 4]`, flat: `[B * K, ...]`."""
        maps = {level: maps[level] for level in ROI_LEVELS}
        cells = self.regions.align(maps, rois, BOX_SIZE)
        return self.box_head(cells, training=training)

    def own_losses(self, maps, samples, batch):
        """The mask loss of proposals that match an object."""
        rois, classes, targets = self.regions.mask_samples(
            samples, batch["masks"], 2 * MASK_SIZE
        )
        logits = self._masks(maps, rois, classes, training=True)
        return {"mask": self.regions.mask_loss(logits, targets, classes)}

    def own_outputs(self, maps, found):
        """Probabilities `[B, K, 28, 28]` that pixels of a box belong to its object."""
        logits = self._masks(maps, found["boxes"], found["classes"], training=False)
        return {"masks": tf.sigmoid(logits)}

    def _masks(self, maps, rois, classes, training):
        maps = {level: maps[level] for level in ROI_LEVELS}
        cells = self.regions.align(maps, rois, MASK_SIZE)
        logits = self.mask_head(cells, training=training)
        side = 2 * MASK_SIZE
        # Loss and output use only the mask of the box's own class.
        own = tf.reshape(tf.cast(classes, tf.int32) - 1, [-1])
        by_class = tf.transpose(logits, [0, 3, 1, 2])
        own = tf.gather(by_class, tf.maximum(own, 0), batch_dims=1)
        return tf.reshape(own, [-1, rois.shape[1], side, side])


def _conv_bn(x, channels, size, name, activation=True):
    x = layers.Conv2D(
        channels,
        size,
        padding="same",
        use_bias=False,
        # Convolutions of the pyramid have no ReLU, and another initializer.
        kernel_initializer=he_normal() if activation else "glorot_uniform",
        name=f"{name}_conv",
    )(x)
    x = batch_norm(f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


def _neck(input_channels, channels):
    """C2 to C5 -> P2 to P6."""
    inputs = [keras.Input((None, None, count)) for count in input_channels]
    lateral = [
        _conv_bn(x, channels, 1, f"lateral{level}", activation=False)
        for level, x in zip(ROI_LEVELS, inputs, strict=True)
    ]
    for i in reversed(range(len(lateral) - 1)):
        upsampled = layers.UpSampling2D(interpolation="nearest")(lateral[i + 1])
        lateral[i] = layers.Add()([lateral[i], upsampled])
    maps = [
        _conv_bn(x, channels, 3, f"pyramid{level}", activation=False)
        for level, x in zip(ROI_LEVELS, lateral, strict=True)
    ]
    maps.append(layers.MaxPooling2D(1, 2)(maps[-1]))
    return keras.Model(inputs, maps, name="neck")


def _box_head(channels, convs, units, num_classes):
    cells = x = keras.Input((BOX_SIZE, BOX_SIZE, channels))
    for i in range(1, convs + 1):
        x = _conv_bn(x, channels, 3, f"box{i}")
    x = layers.Dense(units, activation="relu", name="box_dense")(layers.Flatten()(x))
    return keras.Model(cells, box_outputs(x, num_classes), name="box_head")


def _mask_head(channels, convs, num_classes):
    cells = x = keras.Input((MASK_SIZE, MASK_SIZE, channels))
    for i in range(1, convs + 1):
        x = _conv_bn(x, channels, 3, f"mask{i}")
    x = layers.Conv2DTranspose(
        channels,
        2,
        2,
        activation="relu",
        kernel_initializer=he_normal(),
        name="mask_deconv",
    )(x)
    logits = layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=he_normal(),
        dtype="float32",
        name="mask_logits",
    )(x)
    return keras.Model(cells, logits, name="mask_head")
