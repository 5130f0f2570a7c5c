"""The BYOL loss: squared distance between two unit vectors."""

import gin
import keras
from keras import ops

_SQUARED_NORM_FLOOR = 1e-12


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class BYOLLoss(keras.losses.Loss):
    """Squared distance between the normalised prediction and target projection.

    Per example `||p / ||p|| - z / ||z|| ||^2 = 2 - 2 cos(p, z)`, for one direction.
    BYOL adds two directions: view 1 online with view 2 in the target, then the reverse.
    Apply `ops.stop_gradient` to the target projection, since the loss has gradients
    with respect to both arguments.

    The loss is computed in float32 for any dtype of the inputs: float16 underflows at
    the norm below which a vector counts as zero. A zero vector has cosine 0 with every
    vector, and a finite gradient.

    Args:
        reduction: string. As in `keras.losses.Loss`; the default divides by the
            batch size (and by the number of replicas under `tf.distribute`).
        name: string.

    Source: Grill et al. 2020, eq. 2; normalisation `x * rsqrt(max(sum x^2, 1e-12))`
        from deepmind-research `byol/utils/helpers.py`.
    Deviation: mmselfsup reports the sum of both directions minus 4; its gradients
        are the same.
    """

    def __init__(self, reduction="sum_over_batch_size", name="byol_loss"):
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def call(self, y_true, y_pred):
        """Returns the loss of each example.

        Args:
            y_true: float `[B, D]`. Target projection z.
            y_pred: float `[B, D]`. Online prediction p.

        Returns:
            `[B]` float32, in 0..4.
        """
        cosine = ops.sum(_normalize(y_true) * _normalize(y_pred), axis=-1)
        return 2.0 - 2.0 * cosine


def _normalize(x):
    x = ops.cast(x, "float32")
    squared_norm = ops.sum(ops.square(x), axis=-1, keepdims=True)
    # `ops.normalize` bounds the norm instead of its square, so its gradient at a zero
    # vector is a million times larger.
    return x * ops.rsqrt(ops.maximum(squared_norm, _SQUARED_NORM_FLOOR))
