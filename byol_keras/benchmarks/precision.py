"""The precision that a benchmark trains and predicts in."""

import contextlib
from collections.abc import Iterator

import keras

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@contextlib.contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """New layers compute in this precision inside, and as before afterwards.

    Args:
        policy: one of `PRECISIONS`. Weights are float32 in each of them.

    Raises:
        ValueError: if it is another one.
    """
    if policy not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {policy!r}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
