"""BYOL: two networks, one of which learns to predict the other.

Read this file first. One step, for two views of the same images:

    online:  view -> backbone -> h -> projector -> z -> predictor -> p
    target:  view -> backbone -> h'-> projector -> z'      (no gradient)
    loss:    |p1 - z2'|² + |p2 - z1'|² of the unit vectors; 0..8

The optimizer moves the online network and the predictor. The target follows as an
exponential moving average, `update_target`, which `callbacks.TargetEMA` calls.

Source: Grill et al. 2020, arXiv 2006.07733, §3 and figure 2.
"""

import gin
import keras
import tensorflow as tf
from keras import ops

from byol_keras.losses import BYOLLoss
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints

TARGET_INITS = ("copy", "random")
# sigma = 1/sqrt(fan_in) without Keras's correction for the truncation.
# Source: DeepMind's networks use haiku's default `Linear` initialiser.
DEEPMIND_KERNEL = {
    "scale": 0.87962566103423978**2,
    "mode": "fan_in",
    "distribution": "truncated_normal",
}
# U(-1/sqrt(fan_in), 1/sqrt(fan_in)). Source: torch's default for `Linear`.
TORCH_KERNEL = {"scale": 1.0 / 3.0, "mode": "fan_in", "distribution": "uniform"}
KERNEL_INITIALIZERS = {"deepmind": DEEPMIND_KERNEL, "mmselfsup": TORCH_KERNEL}


def mlp_head(
    hidden_units: int, output_units: int, initializer: str = "deepmind", name=None
) -> keras.Sequential:
    """Projector or predictor: Dense, BatchNormalization, ReLU, Dense without bias.

    Args:
        hidden_units: int. Width of the hidden layer; 4096 in the paper.
        output_units: int. Width of the output; 256 in the paper.
        initializer: "deepmind" (truncated normal) or "mmselfsup" (torch's uniform).
        name: optional model name.

    Returns:
        An unbuilt model, `[B, D]` -> float32 `[B, output_units]`.

    Source: arXiv 2006.07733 §3.3; both code bases leave out the last bias.
    Deviation: the hidden bias starts at 0 for "mmselfsup" too (torch: uniform); the
        BatchNormalization after it removes any bias.
    """
    kernel = KERNEL_INITIALIZERS[initializer]

    def kernel_initializer():
        return keras.initializers.VarianceScaling(**kernel)

    return keras.Sequential(
        [
            keras.layers.Dense(
                hidden_units, kernel_initializer=kernel_initializer(), name="hidden"
            ),
            keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, synchronized=True, name="bn"
            ),
            keras.layers.ReLU(name="relu"),
            keras.layers.Dense(
                output_units,
                use_bias=False,
                kernel_initializer=kernel_initializer(),
                dtype="float32",
                name="output",
            ),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable(package="byol_keras")
class EncoderProjector(keras.Model):
    """A backbone and its projector: what the online and the target network share.

    Args:
        backbone: `keras.Model`, images -> `[B, D]` or a dict with `avgpool` `[B, D]`.
        projector: `keras.Model`, `[B, D]` -> `[B, P]`.
    """

    def __init__(self, backbone, projector, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.projector = projector

    def build(self, input_shape):
        # Calls on symbolic tensors build what is not built yet.
        h = self.represent(keras.KerasTensor(input_shape, dtype="float32"))
        shape = getattr(h, "shape", None)
        if shape is None or len(shape) != 2:
            raise ValueError(
                "backbone must return `[B, D]` or a dict whose `avgpool` is `[B, D]`. "
                f"Received: output {type(h).__name__} of shape {shape}"
            )
        self.projector(h)
        self.built = True

    def represent(self, images, training=None):
        """Representation h, `[B, D]`, of images `[B, H, W, C]` in 0..1."""
        outputs = self.backbone(images, training=training)
        if not isinstance(outputs, dict):
            return outputs
        if "avgpool" not in outputs:
            raise ValueError(
                "backbone, which returns a dict, must have the key 'avgpool'. "
                f"Received: {sorted(outputs)}"
            )
        return outputs["avgpool"]

    def call(self, images, training=None):
        h = self.represent(images, training=training)
        return self.projector(h, training=training)

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "projector": keras.saving.serialize_keras_object(self.projector),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("backbone", "projector"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class BYOL(keras.Model):
    """Bootstrap Your Own Latent.

    `fit` takes a dataset of `(view1, view2)`, each float32 `[B, S, S, C]` in 0..1, and
    needs `callbacks.TargetEMA`, without which the target stays where it started.

    Where the attribute `augment` is set, to `views.TwoViews.on_device` for one, the
    dataset may yield what that function makes views of inside the step.

    Args:
        backbone: `keras.Model`, float32 `[B, H, W, C]` in 0..1 -> `[B, D]` or a dict
            with `avgpool` `[B, D]`. Must be rebuildable from its `get_config()`.
        hidden_units: int. Hidden width of projector and predictor.
        output_units: int. Width of projections and predictions.
        accumulation_steps: int. The batch that `fit` feeds is split into so many
            micro-batches, whose gradients are averaged into one update.
            BatchNormalization sees one micro-batch at a time, as in mmselfsup.
        target_init: "copy" (the target starts as the online network) or "random"
            (its own draw, as DeepMind).
        head_initializer: "deepmind" or "mmselfsup"; see `mlp_head`.
        projector: optional `keras.Model` that replaces the MLP, `[B, D]` -> `[B, P]`.
        predictor: optional `keras.Model` that replaces the MLP, `[B, P]` -> `[B, P]`.

    Logs: `loss` (both directions summed, 0..8), `projection_std` (standard deviation
        over one replica's micro-batch of the unit-length projections, times sqrt(P):
        near 1 for a spread-out representation, 0 for a collapsed one),
        `learning_rate` (that of the step).

    Raises:
        ValueError: for an unknown `target_init` or `head_initializer`; for a size or
            `accumulation_steps` that is not a positive int, or does not divide a
            batch of known size; for a backbone or predictor whose output has another
            shape than said above; for data that are not two views.

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
        projector=None,
        predictor=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("target_init", target_init, TARGET_INITS)
        check_choice("head_initializer", head_initializer, KERNEL_INITIALIZERS)
        check_positive_ints(
            hidden_units=hidden_units,
            output_units=output_units,
            accumulation_steps=accumulation_steps,
        )
        self.hidden_units = hidden_units
        self.output_units = output_units
        self.accumulation_steps = accumulation_steps
        self.target_init = target_init
        self.head_initializer = head_initializer

        head = (hidden_units, output_units, head_initializer)
        projector = projector or mlp_head(*head, name="projector")
        self.online = EncoderProjector(backbone, projector, name="online")
        self.target = EncoderProjector(
            _fresh_copy(backbone), _fresh_copy(projector), name="target"
        )
        self.predictor = predictor or mlp_head(*head, name="predictor")

        self.augment = None
        # `guards.NonfiniteGuard` puts itself here.
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
            self.target.set_weights(self.online.get_weights())
        self.built = True

    def fit(self, x=None, *args, **kwargs):
        """`keras.Model.fit` on a dataset of `(view1, view2)`.

        Builds first what is not built: Keras would do so inside the traced step,
        where the target cannot start as a copy.
        """
        with self.distribute_strategy.scope():
            if not self.built:
                dataset = isinstance(x, tf.data.Dataset)
                views = x.map(self.augment) if self.augment and dataset else x
                self.build(_view_shape(views))
            if self.compiled and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        return super().fit(x, *args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras's own would read a batch, which costs a start of the input pipeline
        # and fails under MultiWorkerMirroredStrategy. `fit` has built everything.
        pass

    def call(self, images, training=None):
        """Predictions p, float32 `[B, P]`, of the online network."""
        return self.predictor(self.online(images, training=training), training=training)

    @property
    def trainable_variables(self):
        """What the optimizer moves: never the target, which cannot be frozen.

        `target.trainable = False` would switch its BatchNormalization to inference
        mode, while the method normalises the target with batch statistics.
        """
        return self.online.trainable_variables + self.predictor.trainable_variables

    @property
    def trainable_weights(self):
        return self.trainable_variables

    def train_step(self, batch):
        views = self.views_of(batch)
        _check_two_views(views)
        learning_rate = ops.cast(self.optimizer.learning_rate, "float32")
        statistics = self.guard.statistics() if self.guard else None
        logs, gradients = self._accumulate(views)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = _share_overflow(gradients)
        taken = self._update(logs["loss"], gradients, statistics)
        logs["learning_rate"] = learning_rate
        for tracker in (self.loss_tracker, self.std_tracker, self.rate_tracker):
            # A skipped step takes no part in the epoch's means.
            value = ops.where(taken, logs[tracker.name], 0.0)
            tracker.update_state(value, sample_weight=taken)
        return _reducible(logs)

    def views_of(self, batch):
        """The two views of a batch as the dataset yields it."""
        return self.augment(*batch) if self.augment else batch

    def _update(self, loss, gradients, statistics):
        """The optimizer's step, if the guard has nothing against it; bool: taken."""
        if self.guard:
            return self.guard.apply(loss, gradients, statistics)
        self.optimizer.apply(gradients, self.trainable_variables)
        return True

    def _accumulate(self, views):
        """Logs and gradients averaged over the micro-batches of one fed batch."""
        logs, gradients = None, None
        for view1, view2 in zip(*(self._split(view) for view in views), strict=True):
            # One micro-batch after the other, so that memory holds one at a time.
            with tf.control_dependencies(_tensors(gradients)):
                step_logs, step_gradients = self._loss_and_gradients(view1, view2)
            logs = _add(logs, step_logs)
            gradients = _add(gradients, step_gradients)
        scale = 1.0 / self.accumulation_steps
        logs = {name: value * scale for name, value in logs.items()}
        return logs, [None if g is None else g * scale for g in gradients]

    def _split(self, view):
        if self.accumulation_steps == 1:
            return [view]
        if view.shape[0] is not None and view.shape[0] % self.accumulation_steps:
            raise ValueError(
                "batch_size per replica must be divisible by accumulation_steps="
                f"{self.accumulation_steps}. Received: {view.shape[0]}"
            )
        return tf.split(view, self.accumulation_steps)

    def _loss_and_gradients(self, view1, view2):
        target_z1 = ops.stop_gradient(self.target(view1, training=True))
        target_z2 = ops.stop_gradient(self.target(view2, training=True))
        with tf.GradientTape() as tape:
            z1 = self.online(view1, training=True)
            z2 = self.online(view2, training=True)
            p1 = self.predictor(z1, training=True)
            p2 = self.predictor(z2, training=True)
            loss = self.loss_fn(target_z2, p1) + self.loss_fn(target_z1, p2)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)
        # A Keras loss is divided by the number of replicas, whose gradients are added.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        logs = {"loss": loss * replicas, "projection_std": _projection_std(z1)}
        return logs, gradients

    def update_target(self, tau):
        """Moves the target: target <- tau * target + (1 - tau) * online.

        All trainable weights of encoder and projector take part; moving statistics of
        BatchNormalization do not, the target keeps its own.

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
            "projector": serialize(self.online.projector),
            "predictor": serialize(self.predictor),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("backbone", "projector", "predictor"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


def _fresh_copy(model):
    """The same architecture with weights of its own."""
    return type(model).from_config(model.get_config())


def _check_two_views(data):
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        received = (
            f"{len(data)} parts" if isinstance(data, (tuple, list)) else f"{data}"
        )
        raise ValueError(f"dataset must yield (view1, view2). Received: {received}")


def _view_shape(x):
    """Shape of a view, without the batch size, in the first argument of `fit`."""
    view = x
    if isinstance(x, tf.data.Dataset):
        _check_two_views(x.element_spec)
        view = x.element_spec[0]
    if getattr(view, "shape", None) is None:
        raise ValueError(
            "backbone must be built before fit where fit does not get a "
            f"tf.data.Dataset or arrays. Received: {type(x).__name__}"
        )
    return (None, *view.shape[1:])


def _share_overflow(gradients):
    """Makes gradients non-finite on every replica as soon as they are on one.

    Keras decides by the first replica's gradients whether to skip a step, and would
    then add those of the others all the same.
    """
    finite = ops.all([ops.all(ops.isfinite(g)) for g in _tensors(gradients)])
    poison = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, ops.where(finite, 0.0, float("nan"))
    )
    return [None if g is None else g + ops.cast(poison, g.dtype) for g in gradients]


def _reducible(logs):
    """Logs in the shape that Keras averages over replicas.

    Under MultiWorkerMirroredStrategy it averages over axis 0 too, which scalars lack.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: ops.reshape(value, (1,)) for name, value in logs.items()}


def _projection_std(z):
    z = ops.normalize(ops.cast(z, "float32"), axis=-1)
    return ops.mean(ops.std(z, axis=0)) * ops.sqrt(ops.cast(z.shape[-1], "float32"))


def _add(total, new):
    """Element-wise sum of two lists or dicts of tensors; None stands for nothing."""
    if total is None:
        return new
    if isinstance(new, dict):
        return {name: total[name] + new[name] for name in new}
    return [
        a if b is None else b if a is None else a + b
        for a, b in zip(total, new, strict=True)
    ]


def _tensors(values):
    return [value for value in values or () if value is not None]
