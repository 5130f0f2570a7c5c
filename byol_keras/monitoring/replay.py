"""Replays one training step and locates its first non-finite value.

When `NonfiniteGuard` stops a run, it dumps the state before the bad step and prints the
command that replays it. The batch of a step is a pure function of seed and position.
"""

import contextlib
import functools
import operator
from typing import NamedTuple

import keras
import tensorflow as tf

# In the order of computation.
PARTS = (
    "target.backbone",
    "target.projector",
    "online.backbone",
    "online.projector",
    "predictor",
)


class Replay(NamedTuple):
    """The result of a replayed step.

    Args:
        loss: float, the sum of both directions.
        gradient_norms: variable -> Euclidean norm of its gradient without loss scaling,
            in the order of the networks.
        first_nonfinite: the first non-finite value in the order of computation:
            "views", a variable, a layer, "loss" or the gradient of a variable; None if
            all are finite.
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
    """Runs a training step eagerly on one device, without the update of the weights.

    Args:
        model: compiled `BYOL` in the state before the step. Its moving statistics
            change.
        batch: the whole batch of the step, as `fit` feeds it.
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
    # Backpropagation computes them from the last layer to the first.
    for name in reversed(gradients):
        stages.append((f"gradient of {name}", _is_finite(gradients[name])))
    return Replay(
        float(update.loss),
        {name: float(tf.norm(gradient)) for name, gradient in gradients.items()},
        next((name for name, is_finite in stages if not is_finite), None),
    )


def _named_gradients(model, gradients, variables):
    """float64 gradients by name, without loss scaling; no entry where there is none."""
    names = {id(variable): name for name, variable in variables.items()}
    scale = tf.cast(model.optimizer.scale_loss(1.0), tf.float64)
    pairs = zip(model.trainable_variables, gradients, strict=True)
    return {
        names.get(id(variable), variable.path): tf.cast(gradient, tf.float64) / scale
        for variable, gradient in pairs
        if gradient is not None
    }


class _Withheld:
    """Replaces `NonfiniteGuard` and keeps the gradients instead of applying them."""

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
    """Records in order of computation whether the outputs of each layer are finite."""
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
    """All layers, by name; models are replaced by their layers."""
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
    """Describes the batch of a step in JSON types.

    Args:
        data: `ImageData`.
        step: int, from 0.
        seed: int. Seed of the run.
        batch_size: int. Images per step.
        pass_length: int. See `ImageData.stream`.

    Returns:
        dict: `seed`; `first_image`, counted from the start of the run; `images`, their
        positions in stored order, and `paths`, both None if they are unknown.
    """
    first = step * batch_size
    places = data.places(seed, first, pass_length, batch_size)
    paths = None
    if places and data.names:
        paths = [data.names[place] for place in places]
    return {"seed": seed, "first_image": first, "images": places, "paths": paths}
