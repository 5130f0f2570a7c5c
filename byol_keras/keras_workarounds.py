"""Workarounds for Keras and `tf.distribute`: what `byol.BYOL` needs around its step."""

import keras
import tensorflow as tf
from keras import ops


class BuildsBeforeFit(keras.Model):
    """A model that `fit` builds from the shape of the views, before it traces a step.

    Keras would build an unbuilt backbone inside the traced step, where the target
    cannot start as a copy of the online network.
    """

    def fit(self, x=None, *args, **kwargs):
        """`keras.Model.fit` on a dataset of `(view1, view2)`."""
        with self.distribute_strategy.scope():
            if not self.built:
                self.build(_view_shape(x, self.augment))
            if self.compiled and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        return super().fit(x, *args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras reads a batch here, which starts the input pipeline once more and fails
        # under MultiWorkerMirroredStrategy. `fit` has already built everything.
        pass


def _view_shape(x, augment):
    """Shape of a view, with batch size None, in the first argument of `fit`."""
    view = x
    if isinstance(x, tf.data.Dataset):
        views = (x.map(augment) if augment else x).element_spec
        check_two_views(views)
        view = views[0]
    if getattr(view, "shape", None) is None:
        raise ValueError(
            "backbone must be built before fit where fit does not get a "
            f"tf.data.Dataset or arrays. Received: {type(x).__name__}"
        )
    return (None, *view.shape[1:])


def check_two_views(batch) -> None:
    """Raises a `ValueError` unless a batch, or its spec, is a pair."""
    is_sequence = isinstance(batch, (tuple, list))
    if not is_sequence or len(batch) != 2:
        received = f"{len(batch)} parts" if is_sequence else f"{batch}"
        raise ValueError(f"dataset must yield (view1, view2). Received: {received}")


def share_overflow(optimizer, gradients):
    """Makes the gradients of all replicas non-finite if those of one replica are.

    Under loss scaling Keras decides by the first replica's gradients whether to skip a
    step. It would still add the other replicas' gradients.
    """
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
