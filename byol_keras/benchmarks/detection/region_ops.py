"""Operations of two-stage detectors without weights, by TensorFlow's Model Garden.

Boxes are ymin, xmin, ymax, xmax in pixels of the batch's canvas. Class 0 is the
background, and objects have classes from 1. Tensors of a batch are padded with -1.
"""

import types
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.detection.sampling import balanced_choice


def model_garden() -> types.SimpleNamespace:
    """Imports the parts of `tf-models-official` that detectors use.

    Its modules register names with gin when they are imported. This happens after the
    configuration was parsed and locked, so that gin has to be unlocked for the import.
    No other library function does that.

    Raises:
        ValueError: if the package or one of its dependencies is not installed.
    """
    try:
        with gin.unlock_config():
            from official.vision.losses import maskrcnn_losses
            from official.vision.modeling import layers
            from official.vision.ops import anchor, box_ops, mask_ops
    except ImportError as error:
        raise ValueError(
            'detection needs the extra "dense": pip install "byol_keras[dense]". '
            f"Received: {error}"
        ) from error
    return types.SimpleNamespace(
        losses=maskrcnn_losses,
        layers=layers,
        anchor=anchor,
        box_ops=box_ops,
        mask_ops=mask_ops,
    )


@gin.register(module="byol_keras")
class Regions:
    """Anchors, proposals, samples, detections and the losses of a two-stage detector.

    Args:
        anchor_sizes: dict, pyramid level -> sides of its square anchors, in pixels.
        aspect_ratios: numbers, width over height. Each size has an anchor of each.
        rpn_samples, rpn_foreground: number of anchors per image in the loss, and the
            largest share of them that match an object.
        rpn_positive_iou, rpn_negative_iou: overlaps from which an anchor matches an
            object, and below which it is background. The best anchor of an object
            always matches it.
        pre_nms, proposals: number of boxes per level before non-maximum suppression in
            training, and number of proposals per image after it.
        test_pre_nms, test_proposals: the same in inference.
        proposal_nms: overlap above which the worse of two proposals is dropped.
        roi_samples, roi_foreground: number of proposals per image that train the heads,
            and the largest share of them that match an object.
        roi_iou: overlap from which a proposal matches an object. Others are background.
        box_weights: factors of the offsets y, x, height and width in the targets of the
            second stage, 1 / 0.1 and 1 / 0.2.
        score_threshold, detection_nms, max_detections: lowest score, largest overlap
            and largest number of detections per image.

    Source: see gin/protocol/detection_voc.gin and detection_coco.gin.
    Deviation: from the Model Garden: RoIAlign takes one sample per bin, at its center,
        and grid points have no half-pixel offset; anchors are at the centers of cells,
        not at their corners; the best anchor of an object matches it with any overlap.
        Box losses are L1, as published, instead of the Model Garden's Huber loss.
    """

    def __init__(
        self,
        anchor_sizes: Mapping[int, Sequence[float]] = gin.REQUIRED,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn_samples: int = 256,
        rpn_foreground: float = 0.5,
        rpn_positive_iou: float = 0.7,
        rpn_negative_iou: float = 0.3,
        pre_nms: int = 2000,
        proposals: int = 2000,
        test_pre_nms: int = 1000,
        test_proposals: int = 1000,
        proposal_nms: float = 0.7,
        roi_samples: int = 512,
        roi_foreground: float = 0.25,
        roi_iou: float = 0.5,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        score_threshold: float = 0.05,
        detection_nms: float = 0.5,
        max_detections: int = 100,
    ):
        self.settings = {k: v for k, v in locals().items() if k != "self"}
        self._garden = garden = model_garden()
        self.anchor_sizes = {int(k): tuple(v) for k, v in anchor_sizes.items()}
        self.aspect_ratios = tuple(aspect_ratios)
        self.anchors_per_cell = len(self.aspect_ratios) * max(
            len(sizes) for sizes in self.anchor_sizes.values()
        )
        self.rpn_samples = rpn_samples
        self._max_rpn_foreground = int(rpn_samples * rpn_foreground)
        self._rpn_labels = {
            "match_threshold": rpn_positive_iou,
            "unmatched_threshold": rpn_negative_iou,
            "rpn_batch_size_per_im": rpn_samples,
            "rpn_fg_fraction": rpn_foreground,
        }
        self._propose = garden.layers.MultilevelROIGenerator(
            pre_nms_top_k=pre_nms,
            num_proposals=proposals,
            nms_iou_threshold=proposal_nms,
            test_pre_nms_top_k=test_pre_nms,
            test_num_proposals=test_proposals,
            test_nms_iou_threshold=proposal_nms,
        )
        # Its own subsampling draws from a state that a resumed run does not have.
        self._match = garden.layers.ROISampler(
            foreground_iou_threshold=roi_iou,
            background_iou_high_threshold=roi_iou,
            skip_subsampling=True,
        )
        self.roi_samples = roi_samples
        self.max_foreground = int(roi_samples * roi_foreground)
        self.box_weights = list(box_weights)
        self._detect = garden.layers.DetectionGenerator(
            pre_nms_score_threshold=score_threshold,
            nms_iou_threshold=detection_nms,
            max_num_detections=max_detections,
            nms_version="batched",
        )

    def anchors(self, image_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Anchors by level, float32 `[h, w, 4 * anchors_per_cell]`, of a canvas.

        Raises:
            ValueError: if the canvas is not a multiple of the largest stride.
        """
        stride = 2 ** max(self.anchor_sizes)
        if any(side % stride for side in image_size):
            raise ValueError(
                f"image_size must be divisible by the stride {stride} of the last "
                f"level. Received: {image_size!r}"
            )
        found = {}
        for level, sizes in self.anchor_sizes.items():
            of_sizes = [
                self._garden.anchor.Anchor(
                    level, level, 1, self.aspect_ratios, size / 2**level, image_size
                ).multilevel_boxes[str(level)]
                for size in sizes
            ]
            found[str(level)] = np.concatenate([boxes.numpy() for boxes in of_sizes], 2)
        return found

    def propose(self, scores, deltas, anchors, image_shape, training):
        """Proposals, float32 `[B, proposals, 4]`, best first, without gradient."""
        batched = {level: boxes[tf.newaxis] for level, boxes in anchors.items()}
        images = tf.shape(image_shape)[0]
        batched = {k: tf.repeat(v, images, axis=0) for k, v in batched.items()}
        rois, _ = self._propose(deltas, scores, batched, image_shape, training=training)
        return tf.stop_gradient(rois)

    def sample(self, rois, boxes, classes, keys):
        """Samples of proposals and true boxes for the heads, with their matches.

        Args:
            rois: result of `propose`.
            boxes, classes, keys: of a batch; see `batches.training_batches`.

        Returns:
            dict of `rois` `[B, roi_samples, 4]`, `classes` int `[B, roi_samples]`,
            matched true `boxes` and their `indices`. Background has boxes of 0 and
            indices of -1.
        """
        matched = self._match(rois, boxes, classes)
        rois, _, classes, _ = matched
        real = tf.reduce_max(rois, axis=-1) >= 0.0  # others are padding
        places = tf.map_fn(
            lambda image: self._roi_places(*image),
            (real & (classes > 0), real & (classes == 0), keys),
            fn_output_signature=tf.int32,
        )
        places = tf.ensure_shape(places, [rois.shape[0], self.roi_samples])
        names = ("rois", "boxes", "classes", "indices")
        return {
            name: tf.stop_gradient(tf.gather(values, places, batch_dims=1))
            for name, values in zip(names, matched, strict=True)
        }

    def _roi_places(self, positive, negative, key):
        """Places of `roi_samples` proposals, filled with unchosen ones where needed.

        Unchosen proposals that match an object are the last resort.
        """
        chosen = balanced_choice(
            positive, negative, self.roi_samples, self.max_foreground, _fold(key, 1)
        )
        order = 2 * tf.cast(chosen, tf.int32) + tf.cast(~positive, tf.int32)
        return tf.math.top_k(order, self.roi_samples).indices

    def align(self, maps, rois, size):
        """RoIAlign: maps by level, `[B, h, w, C]` -> `[B * K, size, size, C]`."""
        cells = self._garden.layers.MultilevelROIAligner(crop_size=size)(maps, rois)
        channels = maps[min(maps)].shape[-1]
        return tf.reshape(cells, [-1, size, size, channels])

    def rpn_losses(self, scores, deltas, anchors, batch):
        """Cross-entropy of objectness and L1 of offsets, per sampled anchor."""
        targets = tf.map_fn(
            lambda example: self._rpn_targets(anchors, *example),
            (
                batch["boxes"],
                batch["classes"],
                batch["image_info"][:, 1],
                batch["key"],
            ),
            fn_output_signature=(
                {k: tf.int32 for k in anchors},
                {k: tf.float32 for k in anchors},
            ),
        )
        score_targets, box_targets = targets
        for level in anchors:
            score_targets[level] = tf.ensure_shape(
                score_targets[level], scores[level].shape
            )
        score_loss = self._garden.losses.RpnScoreLoss(self.rpn_samples)
        images = tf.cast(tf.shape(batch["boxes"])[0], tf.float32)
        box_loss = tf.add_n(
            [
                l1_loss(
                    deltas[level],
                    box_targets[level],
                    tf.repeat(score_targets[level] == 1, 4, axis=-1),
                )
                for level in anchors
            ]
        )
        return {
            "rpn_score": score_loss(scores, score_targets),
            "rpn_box": box_loss / (self.rpn_samples * images),
        }

    def _rpn_targets(self, anchors, boxes, classes, image_shape, key):
        """Targets of the anchors of one image, by level.

        Anchors with their center in the padding of the canvas are never sampled, as in
        mmdetection.
        """
        anchors = {level: tf.constant(boxes) for level, boxes in anchors.items()}
        flat = tf.concat([tf.reshape(a, [-1, 4]) for a in anchors.values()], axis=0)
        centers = (flat[:, :2] + flat[:, 2:]) / 2
        inside = tf.reduce_all(centers < image_shape, axis=-1)

        count, max_positive = self.rpn_samples, self._max_rpn_foreground

        class ChosenLabeler(self._garden.anchor.RpnAnchorLabeler):
            def _get_rpn_samples(self, matches):
                chosen = balanced_choice(
                    inside & (matches >= 0),
                    inside & (matches == -1),
                    count,
                    max_positive,
                    _fold(key, 0),
                )
                # As many as it samples, so that its own random choice keeps them all.
                return super()._get_rpn_samples(tf.where(chosen, matches, -2))

        real = classes > 0
        return ChosenLabeler(**self._rpn_labels).label_anchors(
            anchors,
            tf.boolean_mask(boxes, real),
            tf.boolean_mask(classes, real)[:, tf.newaxis],
        )

    def box_losses(self, logits, deltas, samples):
        """Cross-entropy of classes and L1 of offsets, per sampled proposal."""
        classes = samples["classes"]
        class_loss = self._garden.losses.FastrcnnClassLoss()(logits, classes)
        rois = samples["rois"]
        targets = self._garden.box_ops.encode_boxes(
            samples["boxes"], rois, self.box_weights
        )
        shape = tf.shape(logits)
        by_class = tf.reshape(deltas, [shape[0], shape[1], -1, 4])
        own = tf.gather(by_class, classes, batch_dims=2)
        on_object = tf.repeat(classes[..., tf.newaxis] > 0, 4, axis=-1)
        count = tf.cast(shape[0] * shape[1], tf.float32)
        box_loss = l1_loss(own, targets, on_object) / count
        return {"box_class": class_loss, "box": box_loss}

    def mask_samples(self, samples, masks, size):
        """Proposals on objects, their classes, and masks `[B, K, size, size]`, 0 or 1.

        Args:
            samples: result of `sample`.
            masks: float32 `[B, n, s, s]` of objects, each within its box, or -1.
            size: int. Side of the target masks.

        Proposals on an object whose mask is -1 get the class 0, which has no loss.
        """
        sampler = self._garden.layers.MaskSampler(size, self.max_foreground)
        rois, classes, targets = sampler(
            samples["rois"],
            samples["boxes"],
            samples["classes"],
            samples["indices"],
            masks,
        )
        targets = tf.stop_gradient(targets)
        is_known = tf.reduce_min(targets, axis=[2, 3]) > -0.5
        classes = tf.where(is_known, classes, tf.zeros_like(classes))
        return rois, classes, tf.cast(targets >= 0.5, tf.float32)

    def mask_loss(self, logits, targets, classes):
        """Cross-entropy of the masks `[B, K, s, s]` of proposals on objects."""
        return self._garden.losses.MaskrcnnLoss()(logits, targets, classes)

    def detect(self, logits, deltas, rois, image_shape):
        """Detections of a batch, best first.

        Returns:
            `boxes` float32 `[B, max_detections, 4]`, `scores`, `classes` from 1, and
            `count` int `[B]`. Rows after the first `count` are padding.
        """
        found = self._detect(deltas, logits, rois, image_shape, self.box_weights)
        return {
            "boxes": found["detection_boxes"],
            "scores": found["detection_scores"],
            "classes": found["detection_classes"],
            "count": found["num_detections"],
        }


def _fold(key, number):
    return tf.random.experimental.stateless_fold_in(key, tf.constant(number, key.dtype))


def l1_loss(predicted, targets, counted):
    """Sum of the absolute differences where `counted`, bool, is true."""
    difference = tf.abs(tf.cast(predicted, tf.float32) - targets)
    # Not a product, since ignored differences can be infinite.
    return tf.reduce_sum(tf.where(counted, difference, 0.0))
