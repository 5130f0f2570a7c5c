"""A copy of a backbone with all its weights trainable."""

import keras

from byol_keras.export import reinitialized
from byol_keras.networks import synchronize


def trainable_copy(backbone: keras.Model) -> keras.Model:
    """The same model and weights in variables of its own, all of them trainable.

    Layers that compute in float16 compute in float32 in the copy, and
    BatchNormalization is synchronized over replicas.

    Raises:
        ValueError: if Keras cannot rebuild the model from its configuration, or the
            model has no weights to train.
    """
    copy = reinitialized(backbone, seed=0)
    copy.set_weights(backbone.get_weights())
    copy.trainable = True
    if not copy.trainable_weights:
        raise ValueError(
            "backbone must have weights that can be trained, such as one from a "
            f".keras file. Received: {backbone.name!r}"
        )
    synchronize(copy)
    for layer in copy._flatten_layers():
        # Gradients in float16 vanish without loss scaling, and two optimizers that
        # step together cannot share one scale.
        if layer.compute_dtype == "float16":
            layer.dtype_policy = "float32"
    return copy
