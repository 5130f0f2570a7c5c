"""Faster R-CNN C4: proposals on `feature4`, and the last stage as the box head."""

import gin
import keras
from keras import layers

from byol_keras.benchmarks.detection.region_ops import Regions
from byol_keras.benchmarks.detection.two_stage import (
    TwoStageDetector,
    batch_norm,
    box_outputs,
    rpn_head,
    trainable_backbone,
)

ROI_SIZE = 14


@gin.register(module="byol_keras")
class FasterRCNNC4(TwoStageDetector):
    """Faster R-CNN with a C4 head. All its weights are trained.

    Args:
        backbone: functional `keras.Model` with `feature4` of stride 16 and `feature5`
            computed from it; see `trainable_backbone`. It is copied.
        num_classes: int. Without the background.
        image_size: (height, width) of the canvas that holds every image.
        regions: `Regions` with level 4 only.
        rpn_channels: int. Of the convolution before the proposals.

    Raises:
        ValueError: for a backbone that does not fit, with a list of the differences.

    Source: mmselfsup 0.x `faster_rcnn_r50_c4_mstrain_24k_voc0712.py`: RoIs of 14x14,
        the last stage with stride 2, one more BatchNormalization, the average.
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        image_size: tuple[int, int],
        regions: Regions = gin.REQUIRED,
        rpn_channels: int = 1024,
    ):
        super().__init__(num_classes, image_size, regions)
        backbone = trainable_backbone(backbone, {"feature4": 16, "feature5": 32})
        self.trunk, self.stage5 = split_backbone(backbone)
        channels = self.trunk.output.shape[-1]
        self.rpn = rpn_head(channels, rpn_channels, regions.anchors_per_cell)
        self.box_head = _box_head(self.stage5, num_classes)
        self.built = True

    def pyramid(self, images, training):
        """`feature4` as a pyramid with one level."""
        return {"4": self.trunk(images, training=training)}

    def classify(self, maps, rois, training):
        """Logits and offsets of proposals `[B, K, 4]`, flat: `[B * K, ...]`."""
        cells = self.regions.align(maps, rois, ROI_SIZE)
        return self.box_head(cells, training=training)


def split_backbone(backbone: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Two models of the backbone's layers: images -> `feature4` -> `feature5`.

    Raises:
        ValueError: if `feature5` depends on more than `feature4`.
    """
    outputs = backbone.output
    tensor = outputs["feature4"]
    # In our backbones, `feature4` is an Identity off the path to `feature5`.
    while isinstance(tensor._keras_history.operation, layers.Identity):
        tensor = tensor._keras_history.operation.input
    try:
        stage5 = keras.Model(tensor, outputs["feature5"], name="stage5")
    except ValueError as error:
        raise ValueError(
            "backbone must compute feature5 from feature4 alone. "
            f"Received: {backbone.name!r}, which does not"
        ) from error
    return keras.Model(backbone.input, tensor, name="trunk"), stage5


def _box_head(stage5, num_classes):
    cells = keras.Input((ROI_SIZE, ROI_SIZE, stage5.input.shape[-1]))
    x = batch_norm("box_head_bn")(stage5(cells))
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(cells, box_outputs(x, num_classes), name="box_head")
