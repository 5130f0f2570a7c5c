"""Lists the recipes of the package, or copies one to edit it.

    python -m byol_keras.recipes
    python -m byol_keras.recipes --copy=quickstart

The copy is written to the working directory under the recipe's own name. It includes
the fragments of the package by their paths, which every command finds.
"""

import pathlib

from absl import flags

from byol_keras.recipes import find, recipes
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text


def main(_):
    """Prints all recipes with their first sentence, or writes a copy of one."""
    with cli.user_errors():
        if flags.FLAGS.copy is not None:
            recipe = find(flags.FLAGS.copy)
            path = pathlib.Path(recipe.path.name)
            if path.exists():
                raise ValueError(
                    f"copy must not replace a file. Received: {path}, which exists"
                )
            write_text(path, recipe.path.read_text())
            print(f"written to {path}; use it with --gin_file={path}")
            return
    found = {f"gin/{recipe.name}.gin": recipe.title for recipe in recipes()}
    width = max(map(len, found))
    for path, title in found.items():
        print(f"{path:{width}}  {title}")


if __name__ == "__main__":
    flags.DEFINE_string("copy", None, "recipe to copy to the working directory.")
    cli.run(main)
