"""What every command line shares: flags, gin, errors, devices, seed, run folder."""

import contextlib
import logging as standard_logging
import pathlib
import re
import sys

import gin
import keras
import tensorflow as tf
from absl import flags, logging

from byol_keras.config import bindings, syntax
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.errors import KINDS, Mistakes, lines_of

STRATEGIES = ("auto", "cpu", "mirrored", "multiworker", "tpu")
# These refuse to start in a process that has used TensorFlow.
EARLY_STRATEGIES = ("multiworker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
EXIT_USER_ERROR = 2

# Gin lists under a heading whatever was called, with or without parameters.
_CALLED = re.compile(r"^# Parameters for (?:\w+/)*(\S+):$", re.MULTILINE)
_MACRO = re.compile(r"^(\w+) = (.*)$", re.MULTILINE)
_REFERENCE = re.compile(r"@((?:\w+/)*)(?:\w+\.)*(\w+)")


def define_flags() -> None:
    """Flags of the command lines that work in a run folder."""
    define_gin_flags()
    flags.DEFINE_string("model_dir", None, "run folder.")


def define_gin_flags() -> None:
    """Flags of all command lines that read gin files."""
    flags.DEFINE_multi_string("gin_file", [], "gin file; may be given several times.")
    flags.DEFINE_multi_string(
        "gin_param", [], 'binding that overrides the files, as "train.epochs=5".'
    )
    # Libraries report on every file that they read; a user wants what went wrong.
    logging.set_verbosity(logging.WARNING)


def parse_flags(argv: list[str], with_paths: bool = False) -> list[str]:
    """Parses the command line: what `absl.app.run` takes as its `flags_parser`.

    Args:
        argv: the command and its arguments.
        with_paths: bool. Whether there may be others than flags; they are returned
            after the command.
    """
    with user_errors():
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            raise ValueError(
                f"arguments must be flags of this command ({_first_line(error)}). "
                f"Received: {' '.join(argv[1:])}"
            ) from error
        if rest[1:] and not with_paths:
            raise ValueError(
                "arguments must be flags, as --gin_file=FILE. "
                f"Received: {' '.join(rest[1:])}"
            )
    return rest


@contextlib.contextmanager
def user_errors(kinds: tuple[type[Exception], ...] = KINDS):
    """Turns a user's mistakes into a line each on stderr and exit code 2.

    By default for set-up only, where whatever fails does so for what it was given.

    Args:
        kinds: exceptions that are a user's mistake.
    """
    try:
        yield
    except kinds as error:
        for line in lines_of(error):
            print(f"error: {line}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def parse_gin(gin_files: list[str], gin_params: list[str]) -> syntax.Origin:
    """Parses gin files and bindings; includes are found from the files' own tree.

    Args:
        gin_files: paths, absolute or relative to the working directory.
        gin_params: bindings in gin syntax; they win over the files.

    Returns:
        The recipe among the files, and what differs from it.

    Raises:
        Mistakes: for missing files, syntax errors, unknown names and parameters, all
            that there are.
    """
    if not gin_files:
        raise ValueError("--gin_file must name at least one gin file. Received: none")
    paths = [pathlib.Path(name).resolve() for name in gin_files]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        rule = "--gin_file must be an existing file. Received: "
        raise Mistakes([f"{rule}{path}" for path in absent])
    folders = [f for path in paths for f in path.parents if (f / "gin").is_dir()]
    reading = syntax.read(paths, gin_params, folders)
    if reading.mistakes:
        raise Mistakes(reading.mistakes)
    bindings.set_defaults(reading.defaults, reading.replaced)
    for folder in folders:
        gin.add_config_file_search_path(str(folder))
    try:
        with _without_notes_of_gin():
            gin.parse_config_files_and_bindings([str(p) for p in paths], gin_params)
    except (SyntaxError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise ValueError(f"gin configuration cannot be read: {error}") from error
    return reading.origin


@contextlib.contextmanager
def _without_notes_of_gin():
    """Gin logs an error for every place that it does not find an included file in."""

    def is_wanted(record):
        return not str(record.msg).startswith("Path not found")

    root = standard_logging.getLogger()
    root.addFilter(is_wanted)
    try:
        yield
    finally:
        root.removeFilter(is_wanted)


def _first_line(error):
    return str(error).strip().partition("\n")[0]


def unused_bindings() -> list[str]:
    """Bindings that nothing has used so far, as `scope/name.parameter`.

    Call it when everything that the configuration names has been built. What a used
    binding hands on as a function that is called later, as `[@knn]` to a callback,
    counts as used with all that it names. One that bindings of inner scopes hide in
    every call is not used, unless it comes from an included file. Of an included file,
    what served a value that a later binding has replaced need not be used either.
    """
    configured = _bindings(gin.config_str(max_line_length=10**6))
    operative_text = gin.operative_config_str(max_line_length=10**6)
    # Gin lists what was used under the scope of its caller: `jitter/ColorJitter.hue`.
    operative = _bindings(operative_text)
    used = {_supplier(name, configured) for name in operative}
    hidden = {outer for name in operative for outer in _from_inside_out(name)}
    used |= hidden & bindings.default_names()
    used |= _used_later(configured, used, operative_text)
    return sorted(set(configured) - used - bindings.replaced_names())


def _supplier(name, configured):
    """The binding that gives a parameter its value in the scope of a call."""
    return next((n for n in _from_inside_out(name) if n in configured), name)


def _from_inside_out(name):
    """A binding's name, and those of the same parameter in the scopes around it."""
    *scopes, owner = name.split("/")
    for depth in range(len(scopes), -1, -1):
        yield "/".join([*scopes[:depth], owner])


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
        owned = [
            n for n in configured if n.rpartition("/")[2].startswith(f"{function}.")
        ]
        parameters = {name.rpartition(".")[2] for name in owned}
        found = {_supplier(f"{scope}{function}.{p}", configured) for p in parameters}
        found &= set(configured)
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


def refuse_downloads() -> None:
    """Keeps what gin builds from downloading data, as a dry run should not."""
    bindings.bind_everywhere("byol_keras.tfds_dataset", "download", False)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of a name.

    Args:
        name: "auto" (all GPUs of this machine, else the CPU), "cpu", "mirrored" (all
            GPUs, or all logical CPU devices where there is no GPU), "multiworker"
            (cluster from `TF_CONFIG`) or "tpu" (the TPU of the environment).

    Raises:
        ValueError: for an unknown name, and where there is no TPU.
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
    """Raises a `ValueError` unless the strategy is known."""
    if name not in STRATEGIES:
        raise ValueError(f"--strategy must be one of {STRATEGIES}. Received: {name!r}")


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


def check_model_dir(model_dir: str | None) -> None:
    """Raises a `ValueError` if no run folder is named, or the name is a file's."""
    if not model_dir:
        raise ValueError("--model_dir must name the run folder. Received: none")
    path = pathlib.Path(model_dir)
    files = [p for p in (path, *path.parents) if p.exists() and not p.is_dir()]
    if files:
        raise ValueError(f"--model_dir must be a folder. Received: {files[0]}, a file")


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seeds Python, NumPy and TensorFlow.

    Args:
        seed: int.
        deterministic: bool. Only operations that give the same result every time, for
            the rest of the process. A CPU has no others in a BYOL step; a GPU has some,
            faster ones.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        # What keras-cv's layers draw from; without it they refuse to be made.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
        tf.config.experimental.enable_op_determinism()


def operative_bindings() -> dict[str, str]:
    """Every value that was used so far, as gin writes it, by `scope/name.parameter`.

    Macros are there by their names.
    """
    text = gin.operative_config_str(max_line_length=10**6)
    macros = dict(_MACRO.findall(text))
    return macros | _bindings(text)


def make_run_folder(model_dir: str) -> pathlib.Path:
    """Creates the run folder.

    Raises:
        ValueError: if no folder is named, or it cannot be written.
    """
    check_model_dir(model_dir)
    folder = pathlib.Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--model_dir must be a folder that can be written. Received: {folder} "
            f"({error.strerror})"
        ) from error
    return folder


def write_config(folder: pathlib.Path) -> None:
    """Writes the configuration as parsed, and every value that was used."""
    write_text(folder / "config.gin", gin.config_str())
    write_text(folder / "operative_config.gin", gin.operative_config_str())
