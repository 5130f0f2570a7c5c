"""Replays one training step and says where its first non-finite value is.

    python -m byol_keras.train --gin_file=DIR/config.gin --model_dir=DIR --replay_step=N

A run that `guards.NonfiniteGuard` stopped has left the state before its step N, and the
batch of that step is a pure function of seed and position.
"""

import contextlib
import dataclasses
import functools
import operator
from typing import NamedTuple

import keras
import tensorflow as tf

from byol_keras.data.sources import Rows

# In the order of computation.
PARTS = (
    "target.backbone",
    "target.projector",
    "online.backbone",
    "online.projector",
    "predictor",
)


class Replay(NamedTuple):
    """What a replayed step showed.

    Args:
        loss: float, both directions summed.
        gradient_norms: variable -> Euclidean norm of its gradient, in the order of the
            networks; loss scaling is undone.
        first_nonfinite: where the first value that is not finite is, in the order of
            computation: "views", the variable, the layer, "loss" or the gradient of a
            variable; None if there is none.
    """

    loss: float
    gradient_norms: dict[str, float]
    first_nonfinite: str | None

    def __str__(self):
        norms = [f"  {name}  {norm:.4g}" for name, norm in self.gradient_norms.items()]
        return "\n".join(
            [
                f"loss  {self.loss:.6g}",
                "gradient norms",
                *norms,
                f"first non-finite value: {self.first_nonfinite or 'none'}",
            ]
        )


def replay_step(model, batch) -> Replay:
    """Runs a training step eagerly, without its update.

    Args:
        model: compiled `byol.BYOL` in the state before the step, whose moving
            statistics the step changes all the same.
        batch: the whole batch of the step, as `fit` feeds it. It is run on one device.
    """
    views = model.views_of(batch)
    variables = _variables(model)
    stages = [("views", _is_finite(views))]
    stages += [(name, _is_finite(v.value)) for name, v in variables.items()]
    update = _Withheld()
    with _guarded_by(model, update), _watched(model, stages):
        model.train_step(batch)
    stages.append(("loss", _is_finite(update.loss)))
    gradients = _named_gradients(model, update.gradients, variables)
    # They are computed from the last layer to the first.
    for name in reversed(gradients):
        stages.append((f"gradient of {name}", _is_finite(gradients[name])))
    return Replay(
        float(update.loss),
        {name: float(tf.norm(gradient)) for name, gradient in gradients.items()},
        next((name for name, is_finite in stages if not is_finite), None),
    )


def _named_gradients(model, gradients, variables):
    """float64 gradients by name, without loss scaling; None is left out."""
    names = {id(variable): name for name, variable in variables.items()}
    scale = tf.cast(model.optimizer.scale_loss(1.0), tf.float64)
    pairs = zip(model.trainable_variables, gradients, strict=True)
    return {
        names.get(id(variable), variable.path): tf.cast(gradient, tf.float64) / scale
        for variable, gradient in pairs
        if gradient is not None
    }


class _Withheld:
    """Takes the place of `guards.NonfiniteGuard` and keeps the update to itself."""

    def statistics(self):
        return None

    def apply(self, loss, gradients, statistics):
        self.loss, self.gradients = loss, gradients
        return True


@contextlib.contextmanager
def _guarded_by(model, guard):
    before, model.guard = model.guard, guard
    try:
        yield
    finally:
        model.guard = before


@contextlib.contextmanager
def _watched(model, stages):
    """Notes, in order of computation, whether what each layer returns is finite."""
    layers = _layers(model)

    def watch(name, layer):
        call = layer.call

        @functools.wraps(call)
        def watching(*args, **kwargs):
            outputs = call(*args, **kwargs)
            stages.append((name, _is_finite(outputs)))
            return outputs

        layer.call = watching

    for name, layer in layers.items():
        watch(name, layer)
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.call


def _layers(model):
    """All layers that are no models, by name."""
    layers = {}
    for part in PARTS:
        layers |= _leaves(part, operator.attrgetter(part)(model))
    return layers


def _leaves(name, layer):
    if not isinstance(layer, keras.Model):
        return {name: layer}
    leaves = {}
    for inner in layer.layers:
        leaves |= _leaves(f"{name}/{inner.name}", inner)
    return leaves


def _variables(model):
    return {
        f"{name}/{variable.name}": variable
        for name, layer in _layers(model).items()
        for variable in layer.variables
    }


def _is_finite(values):
    floats = [x for x in tf.nest.flatten(values) if tf.as_dtype(x.dtype).is_floating]
    return all(bool(tf.reduce_all(tf.math.is_finite(x))) for x in floats)


def describe_batch(data, step: int, seed: int, batch_size: int, pass_length: int):
    """Which images a step trains on, in JSON types.

    Args:
        data: `image_data.ImageData`.
        step: int, from 0.
        seed, pass_length: of the run; see `ImageData.stream`.
        batch_size: int. Images per step.

    Returns:
        dict: `seed`; `first_image`, counted from the start of the run; `images`, their
        places in stored order, and `paths`, both None where they are not known.
    """
    first = step * batch_size
    places = paths = None
    if isinstance(data.source, Rows):
        # The same stream, of places instead of images.
        source = dataclasses.replace(data.source, fetch=lambda place: {"place": place})
        stream = source.stream(seed, first, pass_length, shuffle=True)
        places = [int(x["place"]) for x in stream.take(batch_size)]
        paths = data.names and [data.names[place] for place in places]
    return {"seed": seed, "first_image": first, "images": places, "paths": paths}
