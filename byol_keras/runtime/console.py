"""The console of the commands: text appears as it is."""

from rich.console import Console


def plain_console(**options) -> Console:
    """A console that takes no markup, such as `[b]` or `:smile:`, from text.

    Names of files, classes and tensors may contain any of it.

    Args:
        **options: of `rich.console.Console`, as `stderr=True`.
    """
    return Console(markup=False, emoji=False, **options)
