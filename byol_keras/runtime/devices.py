"""Devices of a run: strategy, precision, seed."""

import keras
import tensorflow as tf

STRATEGIES = ("auto", "cpu", "mirrored", "multiworker", "tpu")
# These fail in a process that has already run an operation of TensorFlow.
EARLY_STRATEGIES = ("multiworker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy with a given name.

    Args:
        name: "auto" (all GPUs of this machine, or else the CPU), "cpu", "mirrored" (all
            GPUs, or all logical CPU devices if there is no GPU), "multiworker" (the
            cluster in `TF_CONFIG`) or "tpu" (the TPU of the environment).

    Raises:
        ValueError: if the name is unknown, or no TPU is found.
    """
    check_strategy(name)
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "mirrored":
        return _mirrored_strategy()
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu_strategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return _mirrored_strategy()
    return tf.distribute.get_strategy()


def check_strategy(name: str) -> None:
    """Raises a `ValueError` if no strategy has this name."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}. Received: {name!r}")


def accelerators() -> list:
    """Logical devices to train on: all GPUs, or the CPUs if there is no GPU."""
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices(
        "CPU"
    )


def _mirrored_strategy():
    devices = [device.name for device in accelerators()]
    if "GPU" in devices[0]:
        return tf.distribute.MirroredStrategy(devices)
    # TensorFlow's default for CPUs is a collective operation, which fails in a process
    # that has used another strategy ("Shape mismatch in the collective instance").
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            "strategy must not be tpu unless TensorFlow can reach a TPU. Received: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def set_precision(name: str) -> None:
    """Sets Keras's dtype policy: "float32", "mixed_float16" or "mixed_bfloat16"."""
    if name not in PRECISIONS:
        raise ValueError(
            f"train.precision must be one of {PRECISIONS}. Received: {name!r}"
        )
    keras.config.set_dtype_policy(name)


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seeds Python, NumPy and TensorFlow.

    Args:
        seed: int.
        deterministic: bool. Use deterministic operations only, for the rest of the
            process. On a CPU all operations of a BYOL step are deterministic; on a GPU
            some are not, and these are faster.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        # The layers of keras-cv draw from this generator and fail without it.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
        tf.config.experimental.enable_op_determinism()
