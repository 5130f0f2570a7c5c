"""What every command line shares: flags, gin, errors, devices, seed, run folder."""

import contextlib
import os
import pathlib
import re
import sys

import gin
import keras
import tensorflow as tf
from absl import flags, logging

STRATEGIES = ("auto", "cpu", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
EXIT_USER_ERROR = 2

# Gin lists under a heading whatever was called, with or without parameters.
_CALLED = re.compile(r"^# Parameters for (?:\w+/)*(\S+):$", re.MULTILINE)
_REFERENCE = re.compile(r"@((?:\w+/)*)(?:\w+\.)*(\w+)")


def define_flags() -> None:
    """Flags that all command lines take."""
    flags.DEFINE_multi_string("gin_file", [], "gin file; may be given several times.")
    flags.DEFINE_multi_string(
        "gin_param", [], 'binding that overrides the files, as "train.epochs=5".'
    )
    flags.DEFINE_string("model_dir", None, "run folder.")
    # Libraries report on every file that they read; a user wants what went wrong.
    logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def user_errors():
    """Turns a user's mistake into one line on stderr and exit code 2.

    For set-up only, where whatever fails does so for what it was given: our own checks
    raise ValueError, a value of the wrong type ends in a TypeError somewhere, and gin
    raises RuntimeError for a binding that is missing.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _one_line(error):
    """The first line of a message, and where gin met it if we did not raise it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    places = [line for line in lines[1:] if line.startswith("In call to")]
    if "Received" in lines[0] or not places:
        return lines[0]
    return f"{lines[0]} ({places[0].partition(' (<')[0]})"


def parse_gin(gin_files: list[str], gin_params: list[str]) -> None:
    """Parses gin files and bindings; includes are found from the files' own tree.

    Args:
        gin_files: paths, absolute or relative to the working directory.
        gin_params: bindings in gin syntax; they win over the files.

    Raises:
        ValueError: for a missing file or flag, a syntax error, an unknown name or
            parameter.
    """
    if not gin_files:
        raise ValueError("--gin_file must name at least one gin file. Received: none")
    paths = [pathlib.Path(name).resolve() for name in gin_files]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"--gin_file must be an existing file. Received: {path}")
        for folder in path.parents:
            if (folder / "gin").is_dir():
                gin.add_config_file_search_path(str(folder))
    try:
        gin.parse_config_files_and_bindings([str(path) for path in paths], gin_params)
    except (SyntaxError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"gin configuration cannot be read: {error}") from error


def unused_bindings() -> list[str]:
    """Bindings that nothing has used so far, as `scope/name.parameter`.

    Call it when everything that the configuration names has been built. What a used
    binding hands on as a function that is called later, as `[@knn]` to a callback,
    counts as used with all that it names.
    """
    configured = _bindings(gin.config_str(max_line_length=10**6))
    operative_text = gin.operative_config_str(max_line_length=10**6)
    # Gin lists what was used under the scope of its caller: `jitter/ColorJitter.hue`.
    used = set()
    for name in _bindings(operative_text):
        used |= {name, name.rpartition("/")[2]}
    return sorted(
        set(configured) - used - _used_later(configured, used, operative_text)
    )


def _used_later(configured, used, operative_text):
    """Names of bindings that functions not called yet, and what they name, will use."""
    called = set(_CALLED.findall(operative_text))
    references = [
        (scope, function)
        for name in used & set(configured)
        for scope, function in _REFERENCE.findall(configured[name])
        if function not in called
    ]
    later = set()
    while references:
        scope, function = references.pop()
        owners = {function, f"{scope}{function}"}
        found = {name for name in configured if name.rpartition(".")[0] in owners}
        for name in found - later:
            references += _REFERENCE.findall(configured[name])
        later |= found
    return later


def _bindings(text: str) -> dict[str, str]:
    """Values, as they are written, by name."""
    pairs = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {
        name: value for name, _, value in pairs if name[:1].isalpha() and "." in name
    }


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of a name.

    Args:
        name: "auto" (all GPUs of this machine, else the CPU), "cpu", "mirrored" (all
            GPUs, or all logical CPU devices where there is no GPU), "multiworker"
            (cluster from `TF_CONFIG`) or "tpu" (the TPU of the environment).

    Raises:
        ValueError: for an unknown name, and where there is no TPU.
    """
    if name not in STRATEGIES:
        raise ValueError(f"--strategy must be one of {STRATEGIES}. Received: {name!r}")
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


def accelerators() -> list:
    """Logical devices to train on: all GPUs, or the CPU's where there is none."""
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices(
        "CPU"
    )


def _mirrored_strategy():
    devices = [device.name for device in accelerators()]
    if "GPU" in devices[0]:
        return tf.distribute.MirroredStrategy(devices)
    # TensorFlow's default on CPUs, a collective, fails in a process that has used
    # another strategy before ("Shape mismatch in the collective instance").
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            "--strategy=tpu needs a TPU that TensorFlow can reach. Received: "
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


def make_run_folder(model_dir: str) -> pathlib.Path:
    """Creates the run folder and writes the parsed configuration into it.

    Raises:
        ValueError: if no folder is named, or it cannot be written.
    """
    if not model_dir:
        raise ValueError("--model_dir must name the run folder. Received: none")
    folder = pathlib.Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.gin", gin.config_str())
    except OSError as error:
        raise ValueError(
            f"--model_dir must be a folder that can be written. Received: {folder} "
            f"({error.strerror})"
        ) from error
    return folder


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
