"""All commands of the package under one name.

    byol-keras train --gin_file=gin/pretrain/quickstart.gin --model_dir=DIR
    byol-keras COMMAND --help

The same as `python -m byol_keras.COMMAND`, which also works without an installation.
"""

import runpy
import sys

COMMANDS = {
    "train": "pre-train a backbone as gin files configure it",
    "benchmarks": "evaluate a backbone",
    "preview": "show the views of a recipe",
    "embed": "compute the features of a folder of images, and search them",
    "report": "write the page of a run, or of two runs compared",
    "export": "convert the networks of a run to other formats",
    "interop": "convert weights of other libraries, and to them",
    "data-check": "check a folder of images",
    "recipes": "list the recipes of the package, or copy one",
}


def usage() -> str:
    """The commands, one per line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: byol-keras COMMAND [FLAGS]", "", *lines])


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    if name.replace("_", "-") not in COMMANDS:
        print(
            f"error: the first argument must be a command: {', '.join(COMMANDS)}. "
            f"Received: {name}",
            file=sys.stderr,
        )
        sys.exit(2)
    del sys.argv[1]
    module = f"byol_keras.{name.replace('-', '_')}"
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
