"""Workarounds for Keras and `tf.distribute`: what `byol.BYOL` needs around its step."""

import contextlib
import re
import warnings

import keras
import tensorflow as tf
from keras import ops


class BuildsBeforeFit(keras.Model):
    """A model that `fit` builds from the shape of the views, before it traces a step.

    Keras would build an unbuilt backbone inside the traced step, where the target
    cannot start as a copy of the online network. What cannot be trained is refused
    here, too, before the first step.
    """

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        **kwargs,
    ):
        """`keras.Model.fit` on a dataset of `(view1, view2)`.

        Raises:
            ValueError: for data that are not two views, a batch of one image, an
                optimizer that `check_optimizer` refuses, more than one `TargetEMA`,
                weights of samples or classes, and losses and metrics of `compile`.

        Warns:
            UserWarning: without `TargetEMA`, since the target would never move.
        """
        if self.compiled:
            check_optimizer(self.optimizer, self.distribute_strategy)
            _check_unused({**self.get_compile_config(), **kwargs})
        if batch_size is not None:
            replicas = self.distribute_strategy.num_replicas_in_sync
            check_images(batch_size // replicas, self.accumulation_steps)
        self._prepare(x)
        _check_target_ema(callbacks)
        with _errors_of_steps():
            return super().fit(
                x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs
            )

    def evaluate(self, x=None, *args, return_dict=False, **kwargs):
        """`keras.Model.evaluate` on a dataset of `(view1, view2)`: the loss."""
        # `fit`, which validates, has built the model.
        if not self.built:
            self._prepare(x)
        super().evaluate(x, *args, return_dict=True, **kwargs)
        # Keras returns the mean of the replicas' logs, whatever their shares.
        loss = float(self.loss_tracker.result())
        return {"loss": loss} if return_dict else loss

    def _prepare(self, x):
        """Builds model and optimizer; frozen layers of the target start as online."""
        with self.distribute_strategy.scope():
            if not self.built:
                self.build(_view_shape(x, self.augment))
            if not self.compiled:
                return
            if not self.trainable_variables:
                raise ValueError(
                    f"{self.name} must have trainable weights. Received: none"
                )
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            if int(ops.convert_to_numpy(self.optimizer.iterations)) == 0:
                _copy_newly_frozen(self.online, self.target)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras reads a batch here, which starts the input pipeline once more and fails
        # under MultiWorkerMirroredStrategy. `fit` has already built everything.
        pass


def _check_unused(given):
    """Refuses arguments of Keras that the step of BYOL does not use."""
    for name in (
        *("loss", "loss_weights", "metrics", "weighted_metrics"),
        *("sample_weight", "class_weight"),
    ):
        if given.get(name) is not None:
            raise ValueError(
                f"{name} must be None: BYOL has its own loss, and no labels. "
                f"Received: {given[name]!r}"
            )


def _copy_newly_frozen(online, target):
    """Copies layers that were frozen after the target was made."""
    for source, copy in zip(online.weights, target.weights, strict=True):
        if copy.trainable and not source.trainable:
            copy.assign(source)


def _check_target_ema(callbacks):
    # A `CallbackList` has its callbacks in an attribute of this name.
    found = getattr(callbacks, "callbacks", callbacks) or ()
    found = found if isinstance(found, (list, tuple)) else (found,)
    names = ", ".join(type(callback).__name__ for callback in found) or "none"
    number = sum(bool(getattr(callback, "moves_target", False)) for callback in found)
    if number > 1:
        raise ValueError(
            "callbacks of fit must contain one TargetEMA: each of them moves the "
            f"target. Received: {names}"
        )
    if not number:
        warnings.warn(
            "callbacks of fit must contain TargetEMA: the target never moves unless a "
            f"callback calls update_target. Received: {names}",
            stacklevel=3,
        )


def check_optimizer(optimizer, strategy) -> None:
    """Raises a `ValueError` for settings of Keras that change the method silently.

    Keras clips the gradients of each replica before it adds them, and its gradient
    accumulation would move the target between two updates of the weights.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    name = type(optimizer).__name__
    steps = getattr(optimizer, "gradient_accumulation_steps", None)
    if steps:
        raise ValueError(
            f"{name}.gradient_accumulation_steps must be None; BYOL splits a batch by "
            f"its own accumulation_steps. Received: {steps}"
        )
    replicas = strategy.num_replicas_in_sync
    for argument in ("clipnorm", "global_clipnorm", "clipvalue"):
        value = getattr(optimizer, argument, None)
        if value is not None and replicas > 1:
            raise ValueError(
                f"{name}.{argument} must be None on more than one replica, where Keras "
                f"clips before it adds the gradients of all. Received: {value}, on "
                f"{replicas} replicas"
            )


@contextlib.contextmanager
def _errors_of_steps():
    """Raises what `check_images` finds in a running step as it does elsewhere."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(
            rf"{re.escape(_FEW_IMAGES)} (\d+).*?\[(\d+)", str(error), re.S
        )
        if found is None:
            raise
        accumulation_steps, images = map(int, found.groups())
        raise ValueError(_few_images(accumulation_steps, images)) from None


def _view_shape(x, augment):
    """Shape of a view, with batch size None, in the first argument of `fit`."""
    view = x
    if isinstance(x, tf.data.Dataset):
        views = (x.map(augment) if augment else x).element_spec
        view = two_views(views)[0]
    elif isinstance(x, (tuple, list)):
        view = two_views(x)[0]
    if getattr(view, "shape", None) is None:
        raise ValueError(
            "backbone must be built before fit where fit does not get a "
            f"tf.data.Dataset or arrays. Received: {type(x).__name__}"
        )
    return (None, *view.shape[1:])


def two_views(batch):
    """The two views of a batch, or of its spec.

    Raises:
        ValueError: unless it is a pair. Keras wraps a pair that it gets as one argument
            in a tuple of one, and `train_on_batch` adds missing sample weights.
    """
    if isinstance(batch, (tuple, list)):
        batch = [part for part in batch if part is not None]
        if len(batch) == 1 and isinstance(batch[0], (tuple, list)):
            batch = batch[0]
    is_sequence = isinstance(batch, (tuple, list))
    if not is_sequence or len(batch) != 2:
        received = f"{len(batch)} parts" if is_sequence else f"{batch}"
        raise ValueError(f"dataset must yield (view1, view2). Received: {received}")
    return batch


# The beginning of the message, by which it is found in an error of TensorFlow.
_FEW_IMAGES = "batch_size per replica must be at least 2 x accumulation_steps ="


def _few_images(accumulation_steps, images):
    return (
        f"{_FEW_IMAGES} {2 * accumulation_steps}, since BatchNormalization needs two "
        "images; drop_remainder=True leaves out a shorter last batch. "
        f"Received: {images}"
    )


def check_images(images: int | None, accumulation_steps: int) -> None:
    """Raises a `ValueError` unless a replica's batch splits into micro-batches.

    A micro-batch has at least two images: BatchNormalization makes a single one zero,
    and no gradient passes.

    Args:
        images: int. Images of the batch; None where they are not known.
        accumulation_steps: int. Number of micro-batches.
    """
    if images is None:
        return
    if images % accumulation_steps:
        raise ValueError(
            "batch_size per replica must be divisible by accumulation_steps="
            f"{accumulation_steps}. Received: {images}"
        )
    if images < 2 * accumulation_steps:
        raise ValueError(_few_images(accumulation_steps, images))


def micro_batches(view, accumulation_steps: int) -> list:
    """Splits a view into micro-batches, and checks their size; see `check_images`."""
    check_images(view.shape[0], accumulation_steps)
    if view.shape[0] is None:
        images = tf.shape(view)[0]
        rule = f"{_FEW_IMAGES} {accumulation_steps}"
        enough = tf.debugging.Assert(images >= 2 * accumulation_steps, [rule, images])
        with tf.control_dependencies([enough]):
            view = tf.identity(view)
    if accumulation_steps == 1:
        return [view]
    return tf.split(view, accumulation_steps)


def dense_gradients(tape, loss, variables) -> list:
    """Gradients as tensors, or None.

    TensorFlow gives those of `keras.layers.Embedding` as `tf.IndexedSlices`, which can
    be neither added nor scaled.
    """
    return [
        None if gradient is None else tf.convert_to_tensor(gradient)
        for gradient in tape.gradient(loss, variables)
    ]


def share_overflow(optimizer, gradients):
    """Makes the gradients of all replicas non-finite if those of one replica are.

    Under loss scaling Keras decides by the first replica's gradients whether to skip a
    step. It would still add the other replicas' gradients.

    Raises:
        ValueError: see `check_optimizer`; here for loops without `fit`.
    """
    check_optimizer(optimizer, tf.distribute.get_strategy())
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return gradients
    finite = ops.all([ops.all(ops.isfinite(g)) for g in gradients if g is not None])
    poison = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, ops.where(finite, 0.0, float("nan"))
    )
    return [None if g is None else g + ops.cast(poison, g.dtype) for g in gradients]


def reducible(logs):
    """Logs in the shape that Keras averages over replicas.

    Under MultiWorkerMirroredStrategy it averages over axis 0 too, which scalars lack.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: ops.reshape(value, (1,)) for name, value in logs.items()}
