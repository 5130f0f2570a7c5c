"""Command line: flags, and errors of the library in terms of these flags."""

import contextlib
import functools
import logging as std_logging
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping

from absl import app, flags, logging

from byol_keras.runtime.errors import KINDS, is_outside, lines_of
from byol_keras.runtime.run_folder import check_local

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
# Argument of a function -> flag, where their names differ.
_renamed: dict[str, str] = {}


def run(main: Callable, with_paths: bool = False) -> None:
    """Runs a command, and ends it after SIGINT and SIGTERM in one line.

    The files that it is writing are removed then, those that are complete stay.

    Args:
        main: (arguments) -> None.
        with_paths: see `parse_flags`.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app.run(
            main, flags_parser=functools.partial(parse_flags, with_paths=with_paths)
        )
    except KeyboardInterrupt as error:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        sys.exit(exit_code_of(error))


def _interrupt(number, frame):
    raise KeyboardInterrupt(number)


def exit_code_of(error: KeyboardInterrupt) -> int:
    """What a shell reports for a process that the signal has killed."""
    return 128 + (error.args[0] if error.args else signal.SIGINT)


def define_flags() -> None:
    """Defines the flags of a command that works in a run folder."""
    define_gin_flags()
    flags.DEFINE_string("model_dir", None, "run folder.")
    _show_in_help("model_dir")


def define_gin_flags() -> None:
    """Defines the flags of a command that reads gin files."""
    flags.DEFINE_multi_string("gin_file", [], "gin file; may be given several times.")
    flags.DEFINE_multi_string(
        "gin_param", [], 'binding that overrides the files, as "train.epochs=5".'
    )
    _show_in_help("gin_file", "gin_param")
    rename_arguments(gin_files="gin_file", gin_params="gin_param")
    # Libraries log every file they read; a user needs the warnings only.
    logging.set_verbosity(logging.WARNING)


def _show_in_help(*names):
    """Lets `--help` of the running command list flags that this module defines."""
    for name in names:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def rename_arguments(**flag_of: str) -> None:
    """Declares which flag sets an argument of the library that is named differently.

    Args:
        **flag_of: argument -> flag, as `form="format"`. The strings carry no dashes.
    """
    _renamed.update(flag_of)


def parse_flags(argv: list[str], with_paths: bool = False) -> list[str]:
    """Parses the command line: the `flags_parser` of `absl.app.run`.

    Args:
        argv: the command and its arguments.
        with_paths: bool. Whether arguments that are no flags are allowed; they are
            returned after the command.
    """
    # What a run has found, as the images of a folder, is worth a line.
    std_logging.getLogger("byol_keras").setLevel(std_logging.INFO)
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
        for flag in _own_flags():
            if isinstance(flag.value, str):
                check_local(f"--{flag.name}", flag.value)
    return rest


def _own_flags():
    """The flags of this package and of its commands."""
    by_module = flags.FLAGS.flags_by_module_dict()
    own = [by_module[name] for name in by_module if not name.startswith("absl.")]
    return [flag for found in own for flag in found]


@contextlib.contextmanager
def user_errors(kinds: tuple[type[Exception], ...] = KINDS):
    """Prints a user's mistakes on stderr, one line each, and exits with code 2.

    The code is 1 for what the user did not cause, see `errors.is_outside`. Arguments in
    the messages are shown as the flags of the command, see `with_flags`.

    Args:
        kinds: exceptions that are a user's mistake. The default suits set-up code,
            where every failure comes from what the user has passed.
    """
    try:
        yield
    except kinds as error:
        for line in lines_of(error):
            print(f"error: {with_flags(line)}", file=sys.stderr)
        sys.exit(EXIT_FAILED if is_outside(error) else EXIT_USER_ERROR)


def with_flags(message: str) -> str:
    """A message of the library with arguments shown as flags of the running command.

    Outside of a command, where no flags are defined, the message stays as it is.
    """
    names = {flag.name for flag in _own_flags()}
    renamed = {name: flag for name, flag in _renamed.items() if flag in names}
    return flagged(message, {name: name for name in names} | renamed)


def flagged(message: str, flag_of: Mapping[str, str]) -> str:
    """Writes arguments in a message as flags: `model_dir` as `--model_dir`.

    Before "Received:", two kinds of words are taken for arguments: the names that the
    message starts with, such as "mean and std", and names with an underscore, which
    no other word has.

    Args:
        message: str, "argument must be rule. Received: value".
        flag_of: argument -> flag without dashes.
    """

    def flag(match):
        name = match[0]
        return f"--{flag_of[name]}" if name in flag_of else name

    rule, received, value = message.partition("Received:")
    start = re.match(r"\w+(?:(?:, | and | or )\w+)*(?=[ ,=])", rule)
    if start:
        rule = re.sub(r"\w+", flag, start[0]) + rule[start.end() :]
    rule = re.sub(r"(?<![\w./@%-])[a-z]+(?:_[a-z]+)+(?!\w|[./(]\w)", flag, rule)
    return rule + received + value


def command(module: str, **values: object) -> str:
    """A command of this package as a shell takes it.

    Args:
        module: str. Name below `byol_keras`, as "train".
        **values: flag -> value.
    """
    words = [f"--{name}={value}" for name, value in values.items()]
    return shlex.join(["python", "-m", f"byol_keras.{module}", *words])


def _first_line(error):
    return str(error).strip().partition("\n")[0]
