"""Heads of the variants in this folder."""

import gin
import keras


@gin.register
def no_predictor():
    """An identity in place of the predictor."""
    return keras.Sequential([keras.layers.Activation("linear")])


@gin.register
def plain_head(hidden_units=512, output_units=128):
    """A head of the size used in the recipe, without BatchNormalization."""
    layers = [
        keras.layers.Dense(hidden_units),
        keras.layers.ReLU(),
        keras.layers.Dense(output_units),
    ]
    return keras.Sequential(layers)
