"""Small BYOL models of vectors, data for them, and a pass of training."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA

LEARNING_RATE = 0.5
TAU = 0.9


def views(images, size=5, seed=0):
    """Two arrays of random vectors, `[images, size]`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, images, size)).astype("float32")


def dense_backbone(size=5):
    """Two dense layers, `[B, size]` -> `[B, 4]`."""
    return keras.Sequential(
        [
            keras.Input((size,)),
            layers.Dense(6, activation="tanh"),
            layers.Dense(4, bias_initializer="random_normal"),
        ]
    )


def dense_byol(**kwargs):
    """A BYOL model without BatchNormalization, whose target is not the online copy."""
    kwargs = {"target_init": "random", **kwargs}
    projector = keras.Sequential([layers.Dense(3, bias_initializer="random_normal")])
    predictor = keras.Sequential([layers.Dense(3, bias_initializer="random_normal")])
    return BYOL(dense_backbone(), projector=projector, predictor=predictor, **kwargs)


def two_replicas():
    """A strategy of two CPU devices."""
    # TensorFlow's default reduction on CPUs fails in a process that has used another
    # strategy before.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


class StepLogs(keras.callbacks.Callback):
    """Keeps the logs of every step."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append({name: float(value) for name, value in logs.items()})


def momentum_sgd():
    """SGD with momentum at a fixed rate."""
    return keras.optimizers.SGD(LEARNING_RATE, momentum=0.9)


def fit(model, pair, batch_size, optimizer_fn=momentum_sgd, tau=TAU, eager=False):
    """Trains for one pass and returns the logs of every step.

    Tracing takes longer than a few eager steps; tests about graphs and devices pay it.
    """
    with model.distribute_strategy.scope():
        model.compile(optimizer_fn(), jit_compile=False, run_eagerly=eager)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(pair)).batch(batch_size)
    log = StepLogs()
    ema = TargetEMA(tau, total_steps=len(pair[0]) // batch_size)
    model.fit(dataset, shuffle=False, verbose=0, callbacks=[ema, log])
    return log.steps


def arrays(variables):
    """Copies of the values of variables."""
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def all_variables(model):
    """Variables of the online network, the target and the predictor."""
    return model.online.variables + model.target.variables + model.predictor.variables


@keras.saving.register_keras_serializable(package="tests")
class LazyBackbone(keras.Model):
    """Has no weights before it sees data."""

    def __init__(self, units, rank=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.rank = rank
        self.dense = layers.Dense(units)

    def call(self, images):
        h = self.dense(images)
        return h if self.rank == 2 else h[:, None, None, :]

    def get_config(self):
        return {"units": self.units, "rank": self.rank, "name": self.name}
