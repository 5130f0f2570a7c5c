import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.training.plan import draws_for_itself


@keras.saving.register_keras_serializable(package="test_plan")
class FromTensorFlow(layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.uniform(tf.shape(inputs))


@keras.saving.register_keras_serializable(package="test_plan")
class FromTheGlobalSeed(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.uniform((1,))


@keras.saving.register_keras_serializable(package="test_plan")
class FromAGenerator(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, inputs):
        return inputs + self.generator.uniform((1,))


@keras.saving.register_keras_serializable(package="test_plan")
class FromASeedGenerator(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs + keras.random.uniform((1,), seed=self.generator)


def byol(layer):
    images = keras.Input((8, 8, 3))
    h = layers.GlobalAveragePooling2D()(layer(images))
    return BYOL(keras.Model(images, h), 4, 2)


HIDDEN = {
    "tensorflow": FromTensorFlow,
    "global seed": FromTheGlobalSeed,
    "generator": FromAGenerator,
    "keras-cv": lambda: keras_cv.layers.RandomContrast((0, 1), 0.3),
}
SAVED = {
    "seed generator": FromASeedGenerator,
    "dropout": lambda: layers.Dropout(0.5),
    "keras": lambda: layers.RandomContrast(0.3),
    "none": lambda: layers.Rescaling(2.0),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_random_state_outside_of_the_variables_is_found(kind):
    model = byol(HIDDEN[kind]())
    assert draws_for_itself(model, tf.TensorSpec((2, 8, 8, 3)))


@pytest.mark.parametrize("kind", SAVED)
def test_draws_from_variables_of_the_model_are_no_hidden_state(kind):
    model = byol(SAVED[kind]())
    assert not draws_for_itself(model, tf.TensorSpec((2, 8, 8, 3)))
    assert np.isfinite(model(np.zeros((2, 8, 8, 3), np.float32))).all()
