"""Shared parts of the two detectors: training step, inference, backbone, heads."""

import keras
import tensorflow as tf
from keras import layers

from byol_keras.benchmarks.detection.region_ops import Regions
from byol_keras.benchmarks.trainable import trainable_copy


class TwoStageDetector(keras.Model):
    """Proposes regions on feature maps, then classifies each region.

    `fit` takes batches of `batches.training_batches`, with masks for a detector that
    learns them.

    A subclass sets `rpn`, a model from the maps of one level to scores and offsets of
    its anchors. It defines `pyramid(images, training)`, which returns maps by level,
    and `classify(maps, rois, training)`, which returns logits and offsets
    `[B * K, ...]`.

    Args:
        num_classes: int. Without the background.
        image_size: (height, width) of the canvas.
        regions: `Regions`.
    """

    def __init__(self, num_classes: int, image_size: tuple[int, int], regions: Regions):
        super().__init__()
        self.num_classes = num_classes
        self.regions = regions
        self.anchors = regions.anchors(image_size)
        self.learns = True  # False: a step only updates BatchNormalization statistics

    def train_step(self, batch):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            losses = self.losses_of(batch)
            loss = tf.add_n(list(losses.values()))
            # Keras adds up the gradients of replicas.
            scaled = self.optimizer.scale_loss(loss / replicas)
        if self.learns:
            gradients = tape.gradient(scaled, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, **losses}

    def losses_of(self, batch):
        """The losses of a batch by name, float32 scalars of equal weight."""
        maps = self.pyramid(batch["image"], training=True)
        scores, deltas = self._anchor_outputs(maps, training=True)
        losses = self.regions.rpn_losses(scores, deltas, self.anchors, batch)
        shape = batch["image_info"][:, 1]
        rois = self.regions.propose(scores, deltas, self.anchors, shape, training=True)
        samples = self.regions.sample(
            rois, batch["boxes"], batch["classes"], batch["key"]
        )
        outputs = self._roi_outputs(maps, samples["rois"], training=True)
        losses |= self.regions.box_losses(*outputs, samples)
        return losses | self.own_losses(maps, samples, batch)

    def own_losses(self, maps, samples, batch):
        """Losses of additional heads of a subclass."""
        return {}

    @tf.function(autograph=False)  # no Python control flow depends on tensors
    def detect(self, images, image_shape):
        """Detections on images, in pixels of the canvas.

        Args:
            images: float32 `[B, H, W, 3]` in 0..1.
            image_shape: float32 `[B, 2]`: height and width of the image on the canvas.

        Returns:
            dict of `boxes` float32 `[B, K, 4]` in pixels of the canvas, `scores`
            float32 and `classes` int32 from 1 `[B, K]`, best first, and `count` int32
            `[B]`, the number of detections. Subclasses can add outputs.
        """
        maps = self.pyramid(images, training=False)
        outputs = self._anchor_outputs(maps, training=False)
        rois = self.regions.propose(*outputs, self.anchors, image_shape, training=False)
        outputs = self._roi_outputs(maps, rois, training=False)
        found = self.regions.detect(*outputs, rois, image_shape)
        return found | self.own_outputs(maps, found)

    def own_outputs(self, maps, found):
        """Outputs of additional heads of a subclass."""
        return {}

    def _anchor_outputs(self, maps, training):
        found = {k: self.rpn(maps[k], training=training) for k in self.anchors}
        scores = {level: outputs[0] for level, outputs in found.items()}
        return scores, {level: outputs[1] for level, outputs in found.items()}

    def _roi_outputs(self, maps, rois, training):
        outputs = self.classify(maps, rois, training)
        return [tf.reshape(x, [-1, rois.shape[1], x.shape[-1]]) for x in outputs]


def trainable_backbone(backbone: keras.Model, strides: dict[str, int]) -> keras.Model:
    """A trainable copy of a backbone for a detector, in the current precision.

    Args:
        backbone: functional `keras.Model`, images `[B, H, W, 3]` -> dict of features.
        strides: feature -> stride that the detector needs.

    Raises:
        ValueError: for a backbone that does not fit, with a list of the differences.
    """
    wrong = _mismatches(backbone, strides)
    if wrong:
        raise ValueError(
            f"backbone must have {', '.join(strides)} that fit a detector. "
            f"Received: {backbone.name!r}, {'; '.join(wrong)}"
        )
    copy = trainable_copy(backbone)
    for layer in copy._flatten_layers(include_self=False):
        if not isinstance(layer, layers.Normalization | keras.Model):
            layer.dtype_policy = keras.config.dtype_policy()
    return copy


def _mismatches(backbone, strides):
    """Descriptions of all differences from the backbone that a detector needs."""
    if not getattr(backbone, "inputs", None):
        return ["not a functional model, such as one from a .keras file"]
    wrong = []
    if len(backbone.inputs) != 1 or backbone.inputs[0].shape[-1] not in (3, None):
        wrong.append(
            f"inputs {[x.shape for x in backbone.inputs]} instead of 3 channels"
        )
    outputs = backbone.output if isinstance(backbone.output, dict) else {}
    missing = [name for name in strides if name not in outputs]
    if missing:
        return [*wrong, f"no {', '.join(missing)} among {sorted(outputs)}"]
    if not wrong:
        side = 2 * max(strides.values())
        maps = backbone(keras.KerasTensor((1, side, side, 3)))
        for name, stride in strides.items():
            if tuple(maps[name].shape[1:3]) != (side // stride,) * 2:
                found = side / maps[name].shape[1]
                wrong.append(f"{name} of stride {found:g} instead of {stride}")
    return wrong


def batch_norm(name: str) -> layers.BatchNormalization:
    """BatchNormalization with the backbones' settings, synchronized over replicas."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=True, name=name
    )


def he_normal() -> keras.initializers.Initializer:
    """Normal distribution with sigma sqrt(2 / fan_out), for convolutions with ReLU."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def rpn_head(input_channels: int, channels: int, anchors: int) -> keras.Model:
    """Maps `[B, h, w, C]` -> scores `[B, h, w, anchors]` and offsets, four per anchor.

    Source: mmdetection 2.x `dense_heads/rpn_head.py`: 3x3 and 1x1, all N(0, 0.01).
    """
    maps = keras.Input((None, None, input_channels))
    x = layers.Conv2D(
        channels,
        3,
        padding="same",
        activation="relu",
        kernel_initializer=_normal(0.01),
        name="rpn_conv",
    )(maps)
    outputs = [
        layers.Conv2D(
            filters, 1, kernel_initializer=_normal(0.01), dtype="float32", name=name
        )(x)
        for name, filters in (("rpn_scores", anchors), ("rpn_offsets", 4 * anchors))
    ]
    return keras.Model(maps, outputs, name="rpn")


def box_outputs(x, num_classes: int) -> list:
    """Logits of background and classes, and box offsets for each of them.

    Source: mmdetection 2.x `bbox_heads/bbox_head.py`: N(0, 0.01) and N(0, 0.001).
    """
    return [
        layers.Dense(
            units, kernel_initializer=_normal(sigma), dtype="float32", name=name
        )(x)
        for name, units, sigma in (
            ("box_class", num_classes + 1, 0.01),
            ("box_offsets", 4 * (num_classes + 1), 0.001),
        )
    ]


def _normal(stddev):
    return keras.initializers.RandomNormal(stddev=stddev)
