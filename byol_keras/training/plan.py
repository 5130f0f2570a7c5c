"""Plan of a run: its data, steps, batch, schedules and devices, in one table."""

import functools
from collections.abc import Mapping

import keras
import tensorflow as tf
from rich.table import Table

from byol_keras.checkpoints.callback import has_state
from byol_keras.runtime import devices
from byol_keras.training import advice
from byol_keras.views.pipeline import cores

# Layers of these packages draw from generators that are variables of the model.
_OWN_MODULES = ("keras.", "byol_keras.")
# Operations that draw from a state inside of TensorFlow.
_HIDDEN_DRAWS = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
}


def table(rows: Mapping[str, str]) -> Table:
    """The rows of a plan as a table for the console."""
    shown = Table(show_header=False, box=None)
    for name, value in rows.items():
        shown.add_row(name, value)
    return shown


def rows(run) -> dict[str, str]:
    """Describes a run.

    Args:
        run: `build.Run`.

    Returns:
        Topic, such as "batch" -> text.
    """
    length, model = run.length, run.model
    rate = functools.partial(_learning_rate, model.optimizer)
    rates = [rate(step) for step in _probe_steps(length)]
    taus = [float(run.target_ema.tau(step)) for step in _probe_steps(length)]
    size = run.data.image_size or ("any", "any")
    replicas = run.strategy.num_replicas_in_sync
    micro_batch = length.batch_size // (replicas * length.accumulation_steps)
    return {
        "data": f"{run.data.name}: {run.data.num_examples} images of "
        f"{size[0]} x {size[1]} x {run.data.channels}",
        **advice.rows(run, rate),
        "steps": f"{length.total_steps} = {length.epochs} epochs of about "
        f"{length.total_steps / length.epochs:.1f}",
        "batch": f"{length.batch_size} = {replicas} replicas x "
        f"{length.accumulation_steps} accumulated x {micro_batch}",
        "optimizer": type(_inner(model.optimizer)).__name__,
        "learning rate": _at_probes(rates),
        "tau": _at_probes(taus),
        "parameters": f"backbone {_count(model.online.backbone):,}, projector "
        f"{_count(model.online.projector):,}, predictor {_count(model.predictor):,}",
        "devices": ", ".join(_devices(run.strategy)),
        "precision": run.settings.precision,
        "views": f"on the {run.views.place}, {cores()} CPU threads",
        "exact resume": _exact_resume(run),
    }


def _devices(strategy):
    """Names of the devices that train; a strategy of several is named first."""
    if strategy.num_replicas_in_sync > 1:
        return [type(strategy).__name__, *strategy.extended.worker_devices]
    return [device.name for device in devices.accelerators()[:1]]


def _probe_steps(length):
    return (
        0,
        length.total_steps // 10,
        length.total_steps // 2,
        length.total_steps - 1,
    )


def _at_probes(values):
    return "{:.4g} first, {:.4g} at 10 %, {:.4g} half-way, {:.4g} last".format(*values)


def _inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def _learning_rate(optimizer, step):
    rate = _inner(optimizer)._learning_rate
    schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    return float(rate(step) if schedule else rate)


def _count(model):
    return sum(int(tf.size(variable)) for variable in model.trainable_variables)


def _exact_resume(run):
    """Whether a resumed run ends like an uninterrupted one, and if not, why."""
    if not run.views.stateless:
        return "off: a stock layer draws its own random numbers"
    if _has_foreign_layers(run.model):
        images = tf.TensorSpec((run.length.batch_size, *run.views.shape(run.data)))
        if draws_for_itself(run.model, images):
            return "off: a layer of the model has random state that is not saved"
    anew = [type(c).__name__ for c in run.callbacks if _starts_anew(c)]
    return f"on, but {', '.join(anew)} starts anew" if anew else "on"


def _starts_anew(callback):
    stateless = isinstance(callback, keras.callbacks.TerminateOnNaN)
    stateless = stateless or getattr(callback, "stateless", False)
    return not (stateless or has_state(callback))


def _has_foreign_layers(model):
    return any(
        isinstance(layer, keras.layers.Lambda)
        or not type(layer).__module__.startswith(_OWN_MODULES)
        for layer in model._flatten_layers(include_self=False)
    )


def draws_for_itself(model: keras.Model, images: tf.TensorSpec) -> bool:
    """Whether a model draws random numbers from a state outside of its variables.

    Args:
        model: built `keras.Model`. It is traced as in training.
        images: shape and dtype of its input.
    """
    trace = tf.function(lambda x: model(x, training=True))
    graph = trace.get_concrete_function(images).graph
    operations = {operation.type for operation in graph.get_operations()}
    for function in graph.as_graph_def().library.function:
        operations |= {node.op for node in function.node_def}
    own = {id(variable.value) for variable in model.variables}
    hidden = [variable for variable in graph.variables if id(variable) not in own]
    return bool(hidden or operations & _HIDDEN_DRAWS)
