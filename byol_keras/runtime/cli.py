"""What every command line shares: flags, gin, errors, devices, seed, run folder."""

import contextlib
import sys

from absl import flags, logging

from byol_keras.runtime.errors import KINDS, lines_of

EXIT_USER_ERROR = 2


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


def _first_line(error):
    return str(error).strip().partition("\n")[0]
