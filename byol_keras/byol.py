"""BYOL: an online network learns to predict the projections of a target network.

Read this file first. One step, for two views of the same images:

    online:  view -> backbone -> h -> projector -> z -> predictor -> p
    target:  view -> backbone -> h'-> projector -> z'      (no gradient)
    loss:    |p1 - z2'|² + |p2 - z1'|² of the unit vectors; 0..8

The optimizer updates the online network and the predictor. The target is an
exponential moving average of the online network; `callbacks.TargetEMA` updates it.
`networks.py` has the heads, `keras_workarounds.py` what Keras needs around the step.

Source: Grill et al. 2020, arXiv 2006.07733, §3 and figure 2.
"""

import gin
import keras
import tensorflow as tf
from keras import ops

from byol_keras.keras_workarounds import (
    BuildsBeforeFit,
    dense_gradients,
    micro_batches,
    reducible,
    share_overflow,
    two_views,
)
from byol_keras.losses import BYOLLoss
from byol_keras.networks import (
    HEAD_INITIALIZERS,
    EncoderProjector,
    copy_weights,
    fresh_copy,
    mlp_head,
    start_at_random,
    with_models,
)
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints

TARGET_INITS = ("copy", "random")


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class BYOL(BuildsBeforeFit):
    """Bootstrap Your Own Latent.

    `fit` takes a dataset of `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1, and
    needs `callbacks.TargetEMA`, which updates the target.

    If the attribute `augment` is set, for example to `views.TwoViews.on_device`, the
    dataset yields the arguments of that function, which returns the two views inside
    the step.

    Args:
        backbone: `keras.Model`, float32 `[B, H, W, C]` in 0..1 -> `[B, D]` or a dict
            with `avgpool` `[B, D]`. Must be rebuildable from its `get_config()`.
        hidden_units: int. Hidden width of projector and predictor.
        output_units: int. Width of projections and predictions.
        accumulation_steps: int. Number of micro-batches that a fed batch is split
            into. Their gradients are averaged into one update. BatchNormalization
            uses the statistics of one micro-batch, as in mmselfsup.
        target_init: "copy" (the target starts as the online network) or "random"
            (its own draw, as DeepMind; frozen layers are copied nevertheless, and all
            of it if the backbone comes with trained weights).
        head_initializer: "deepmind" or "mmselfsup"; see `mlp_head`.
        standardize_projections: bool. `standardize` of the projector; see `mlp_head`.
        projector: optional `keras.Model` that replaces the MLP, `[B, D]` -> `[B, P]`.
        predictor: optional `keras.Model` that replaces the MLP, `[B, P]` -> `[B, P]`.

    Logs: `loss` (both directions summed, 0..8), `projection_std` (standard deviation
        over one replica's micro-batch of the unit-length projections, times sqrt(P):
        near 1 for a spread-out representation, 0 for a collapsed one),
        `learning_rate` (that of the step).

    Raises:
        ValueError: for an unknown `target_init` or `head_initializer`; for a size or
            `accumulation_steps` that is not a positive int, or does not split a
            batch into micro-batches of at least two images; for a backbone or
            predictor whose output does not have the shape above; for data that are not
            two views.

    Source: arXiv 2006.07733 §3; reference accumulation: mmselfsup 0.x.
    """

    def __init__(
        self,
        backbone,
        hidden_units=4096,
        output_units=256,
        accumulation_steps=1,
        target_init="copy",
        head_initializer="deepmind",
        standardize_projections=False,
        projector=None,
        predictor=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("target_init", target_init, TARGET_INITS)
        check_choice("head_initializer", head_initializer, HEAD_INITIALIZERS)
        check_positive_ints(
            hidden_units=hidden_units,
            output_units=output_units,
            accumulation_steps=accumulation_steps,
        )
        # Layers refuse the integers of NumPy.
        self.hidden_units = int(hidden_units)
        self.output_units = int(output_units)
        self.accumulation_steps = int(accumulation_steps)
        self.target_init = target_init
        self.head_initializer = head_initializer
        self.standardize_projections = bool(standardize_projections)

        head = (self.hidden_units, self.output_units, head_initializer)
        projector = projector or mlp_head(*head, standardize_projections, "projector")
        self.online = EncoderProjector(backbone, projector, name="online")
        self.target = EncoderProjector(
            fresh_copy(backbone), fresh_copy(projector), name="target"
        )
        self.predictor = predictor or mlp_head(*head, name="predictor")

        self.augment = None
        # Set by `monitoring.nonfinite.NonfiniteGuard`.
        self.guard = None
        self.loss_fn = BYOLLoss()
        self.loss_tracker = keras.metrics.Mean("loss")
        self.std_tracker = keras.metrics.Mean("projection_std")
        self.rate_tracker = keras.metrics.Mean("learning_rate")
        if isinstance(getattr(backbone, "input_shape", None), tuple):
            self.build(backbone.input_shape)

    def build(self, input_shape):
        images = keras.KerasTensor(input_shape, dtype="float32")
        self.target(images)
        z = self.online(images)
        p = self.predictor(z)
        if p.shape != z.shape:
            raise ValueError(
                "predictor must return the shape that projector returns, "
                f"{tuple(z.shape)}. Received: {tuple(p.shape)}"
            )
        if self.target_init == "copy":
            copy_weights(self.target, self.online)
        else:
            start_at_random(self.target, self.online)
        self.built = True

    def call(self, images, training=None):
        """Predictions p, float32 `[B, P]`, of the online network."""
        return self.predictor(self.online(images, training=training), training=training)

    @property
    def trainable_variables(self):
        """Variables that the optimizer updates: all but those of the target.

        The target is not frozen by `trainable = False`, which would switch its
        BatchNormalization to inference mode. BYOL normalises it by batch statistics.
        """
        return self.online.trainable_variables + self.predictor.trainable_variables

    @property
    def trainable_weights(self):
        return self.trainable_variables

    def train_step(self, batch):
        views = two_views(self.views_of(batch))
        learning_rate = ops.cast(self.optimizer.learning_rate, "float32")
        statistics = self.guard.statistics() if self.guard else None
        total = None
        parts = [micro_batches(view, self.accumulation_steps) for view in views]
        for view1, view2 in zip(*parts, strict=True):
            # Each waits for the one before, so that memory holds one at a time.
            before = [x for x in tf.nest.flatten(total) if x is not None]
            with tf.control_dependencies(before):
                total = _add(total, self.loss_and_gradients(view1, view2))
        logs, gradients = _scale(total, 1.0 / self.accumulation_steps)
        gradients = share_overflow(self.optimizer, gradients)
        is_applied = self._apply(logs["loss"], gradients, statistics)
        logs["learning_rate"] = learning_rate
        for tracker in (self.loss_tracker, self.std_tracker, self.rate_tracker):
            # A skipped step does not count in the means of the epoch.
            value = ops.where(is_applied, logs[tracker.name], 0.0)
            tracker.update_state(value, sample_weight=is_applied)
        return reducible(logs)

    def test_step(self, batch):
        """Logs the loss in inference mode, the mean over all images, and moves nothing.

        Keras calls it for `evaluate` and `validation_data`.
        """
        view1, view2 = two_views(self.views_of(batch))
        targets = self.target(view2, training=False), self.target(view1, training=False)
        losses = self.loss_fn.call(targets[0], self(view1, training=False))
        losses += self.loss_fn.call(targets[1], self(view2, training=False))
        self.loss_tracker.update_state(losses)
        return reducible({"loss": self.loss_tracker.result()})

    def loss_and_gradients(self, view1, view2):
        """Loss and gradients of one micro-batch.

        Args:
            view1, view2: float32 `[B, S, S, C]` in 0..1.

        Returns:
            Logs, a dict of float32 scalars; and the gradients of
            `trainable_variables`, with loss scaling, None where there is none.
        """
        target_z1 = ops.stop_gradient(self.target(view1, training=True))
        target_z2 = ops.stop_gradient(self.target(view2, training=True))
        with tf.GradientTape() as tape:
            z1 = self.online(view1, training=True)
            z2 = self.online(view2, training=True)
            p1 = self.predictor(z1, training=True)
            p2 = self.predictor(z2, training=True)
            loss = self.loss_fn(target_z2, p1) + self.loss_fn(target_z1, p2)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = dense_gradients(tape, scaled_loss, self.trainable_variables)
        # Keras divides a loss by the number of replicas and adds their gradients.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        logs = {"loss": loss * replicas, "projection_std": _projection_std(z1)}
        return logs, gradients

    def views_of(self, batch):
        """The two views of a batch as the dataset yields it."""
        return self.augment(*batch) if self.augment else batch

    def _apply(self, loss, gradients, statistics):
        """Applies the gradients unless the guard refuses; bool: whether it did."""
        if self.guard:
            return self.guard.apply(loss, gradients, statistics)
        self.optimizer.apply(gradients, self.trainable_variables)
        return True

    def update_target(self, tau):
        """Moves the target: target <- tau * target + (1 - tau) * online.

        Updates all trainable weights of encoder and projector. The target keeps its own
        moving statistics of BatchNormalization.

        Args:
            tau: float or scalar tensor in 0..1. 1 leaves the target as it is.

        Source: arXiv 2006.07733 eq. 1; for the statistics DeepMind's code.
        """

        def move(target, online, rate):
            target.assign_add(tf.cast(rate, target.dtype) * (online - target))

        strategy = self.distribute_strategy
        pairs = zip(self.target.variables, self.online.variables, strict=True)
        with strategy.scope():
            # Only the online network knows which of its layers a user has frozen.
            for target, online in pairs:
                if online.trainable:
                    strategy.extended.update(
                        target.value, move, args=(online.value, 1.0 - tau), group=False
                    )

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": serialize(self.online.backbone),
            "hidden_units": self.hidden_units,
            "output_units": self.output_units,
            "accumulation_steps": self.accumulation_steps,
            "target_init": self.target_init,
            "head_initializer": self.head_initializer,
            "standardize_projections": self.standardize_projections,
            "projector": serialize(self.online.projector),
            "predictor": serialize(self.predictor),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_models(config, "backbone", "projector", "predictor"))


def _projection_std(z):
    z = ops.normalize(ops.cast(z, "float32"), axis=-1)
    return ops.mean(ops.std(z, axis=0)) * ops.sqrt(ops.cast(z.shape[-1], "float32"))


def _add(total, new):
    """Element-wise sum of two nests of tensors; None counts as zero."""

    def add(a, b):
        return a if b is None else b if a is None else a + b

    return new if total is None else tf.nest.map_structure(add, total, new)


def _scale(total, factor):
    """A nest of tensors times a factor; None stays None."""
    return tf.nest.map_structure(lambda x: None if x is None else x * factor, total)
