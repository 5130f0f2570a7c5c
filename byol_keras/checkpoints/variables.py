"""Variables of a model and its optimizer as named arrays, and back."""

import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from byol_keras.runtime import workers


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of all variables of a compiled `BYOL` and its optimizer."""
    return copies_of(variables_of(model))


def copies_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """What variables hold now, by the same names."""
    return {name: workers.value_here(variable) for name, variable in variables.items()}


def load_arrays(
    model: keras.Model, arrays: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Gives the variables what `arrays_of` has copied.

    Args:
        model: compiled `BYOL`.
        arrays: name -> array; those of callbacks are passed over.
        path: where they come from, for the message.

    Raises:
        ValueError: if they are not of these variables.
    """
    variables = variables_of(model)
    _check_same(variables, arrays, path)
    for name, variable in variables.items():
        variable.assign(_as_dtype(arrays[name], variable.dtype))


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled `BYOL` and its optimizer, by part and place."""
    parts = {
        "online": model.online.variables,
        "target": model.target.variables,
        "predictor": model.predictor.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    known = {id(v) for variables in parts.values() for v in variables}
    parts["others"] = [v for v in model.variables if id(v) not in known]
    return by_position(parts)


def by_position(parts: dict[str, list]) -> dict[str, keras.Variable]:
    """The variables of some parts under names that a second process gives them too.

    Keras numbers unnamed layers through a process, so paths are no stable names.
    """
    return {
        f"{part}/{place:04d}": variable
        for part, variables in parts.items()
        for place, variable in enumerate(variables)
    }


def _as_dtype(array, dtype):
    """NumPy's files know bfloat16 only as two bytes."""
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
            "model_dir holds a checkpoint of another model or optimizer; use a new "
            f"folder. Received: {path}, {len(wrong)} variables differ, the first is "
            f"{min(wrong)}"
        )
