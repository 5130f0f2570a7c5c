"""Conversion between the variables of a model and named arrays."""

import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from byol_keras.runtime import workers


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies all variables of a compiled `BYOL` and its optimizer to arrays."""
    return copies_of(variables_of(model))


def copies_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Copies the values of variables to arrays, under the same names."""
    return {name: workers.value_here(variable) for name, variable in variables.items()}


def load_arrays(
    model: keras.Model, arrays: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Assigns arrays to the variables that `arrays_of` copied them from.

    Args:
        model: compiled `BYOL`.
        arrays: name -> array; those of callbacks are ignored.
        path: of their file, for the error message.

    Raises:
        ValueError: if names or shapes differ from those of the variables.
    """
    variables = variables_of(model)
    _check_same(variables, arrays, path)
    assign(variables, arrays)


def assign(
    variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]
) -> None:
    """Assigns to each variable the array of its name, as read from a checkpoint."""
    for name, variable in variables.items():
        variable.assign(_as_dtype(arrays[name], variable.dtype))


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled `BYOL` and its optimizer, by part and position."""
    parts = {
        **_networks(model),
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    known = {id(v) for variables in parts.values() for v in variables}
    parts["others"] = [v for v in model.variables if id(v) not in known]
    return by_position(parts)


def variables_of_networks(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of online network, target and predictor, by part and position."""
    return by_position(_networks(model))


def _networks(model):
    return {
        "online": model.online.variables,
        "target": model.target.variables,
        "predictor": model.predictor.variables,
    }


def by_position(parts: dict[str, list]) -> dict[str, keras.Variable]:
    """Variables under names that are the same in every process.

    Paths of variables are not: Keras numbers unnamed layers in the order of a process.

    Args:
        parts: name of a part -> its variables.
    """
    return {
        f"{part}/{position:04d}": variable
        for part, variables in parts.items()
        for position, variable in enumerate(variables)
    }


def _as_dtype(array, dtype):
    """Restores bfloat16, which NumPy files store as two raw bytes."""
    return (
        array.view(keras.backend.standardize_dtype(dtype))
        if array.dtype.kind == "V"
        else array
    )


def _check_same(variables, arrays, path):
    saved = {name for name in arrays if not name.startswith("callbacks/")}
    wrong = set(variables) ^ saved
    wrong |= {
        name
        for name, variable in variables.items()
        if name not in wrong and arrays[name].shape != tuple(variable.shape)
    }
    if wrong:
        raise ValueError(
            "model_dir must hold checkpoints of this model and optimizer; use a new "
            f"folder. Received: {path}, where {len(wrong)} variables differ, first "
            f"{min(wrong)}"
        )
