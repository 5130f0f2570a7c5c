"""Shows and measures what a recipe's augmentations do to its images.

    python -m byol_keras.preview --gin_file=FILE [--gin_param=...] --out=FILE.png

The picture shows originals, both views and the random draws behind them. Exit code 0 if
every operation does what is configured, 1 if one does not, 2 for a user's mistake.
"""

import json
import pathlib
import sys

from absl import flags
from rich.console import Console
from rich.table import Table

from byol_keras import benchmarks, gin_names, recipes  # noqa: F401, register names for gin
from byol_keras.config import graph, parse
from byol_keras.data.unreadable import listed_in
from byol_keras.preview.contact_sheet import plot_contact_sheet, require_matplotlib
from byol_keras.preview.inspection import Preview, for_json, inspect_views
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.console import plain_console

EXIT_FINDINGS = 1
# The name that gin files bind a training under.
TRAIN = "byol_keras.train"


def train_signature(*, dataset_fn, views_fn, seed: int = 0, **others) -> None:
    """The arguments of `train.train` that views depend on, among all that gin binds."""


def print_report(found: Preview, console: Console) -> None:
    """Prints the numbers of a preview."""
    table = Table(
        "view", "operation", "configured", "changed", "by chance", "of images"
    )
    for effect in found.effects:
        table.add_row(
            effect.view,
            effect.name,
            f"{effect.rate:.3f}",
            f"{effect.share:.3f}",
            f"{effect.least:.3f} to {effect.most:.3f}",
            f"{effect.changeable} of {effect.images}",
        )
    console.print(table)
    for name, values in found.numbers["value_range"].items():
        console.print(
            f"{name}: values {values['least']:.3f} to {values['most']:.3f}, mean "
            f"{values['mean']:.3f}, {100 * values['share_at_0']:.1f} % at 0, "
            f"{100 * values['share_at_1']:.1f} % at 1"
        )
    numbers = found.numbers["independence"]
    console.print(
        f"images with their own draws: {numbers['images_with_draws_of_their_own']} of "
        f"{numbers['images']}, with equal views: {numbers['images_with_equal_views']}"
    )
    console.print(
        "mean difference between the views of one image "
        f"{numbers['difference_between_views_of_an_image']:.3f}, of two images "
        f"{numbers['difference_between_views_of_two_images']:.3f}"
    )
    for name, share in (found.numbers["agreement"] or {}).items():
        console.print(f"{name}: {100 * share:.3f} % of values agree with the layers")


def main(_):
    """Parses flags and gin, measures the views, plots them and prints the numbers."""
    given = flags.FLAGS
    with cli.user_errors(), listed_in(None):
        if not given.out:
            raise ValueError("--out must name a PNG file. Received: none")
        require_matplotlib()
        # The gin files are those of a training, which is not part of this command.
        graph.declare(TRAIN, train_signature)
        parse.parse_gin(given.gin_file, given.gin_param, installed=recipes.root())
        dataset_fn, views_fn, seed = (
            graph.value_of(TRAIN, name) for name in ("dataset_fn", "views_fn", "seed")
        )
        found = inspect_views(dataset_fn(), views_fn(), seed, given.images, given.rows)
        title = f"{found.data_name}\n{' '.join(given.gin_file)}"
        path = pathlib.Path(given.out)
        plot_contact_sheet(found.samples, found.effects, title, path)
        if given.json:
            text = json.dumps(for_json(found), indent=1) + "\n"
            write_text(pathlib.Path(given.json), text)
    print_report(found, plain_console())
    print(f"written to {given.out}")
    for line in found.findings:
        print(f"error: {line}", file=sys.stderr)
    if found.findings:
        sys.exit(EXIT_FINDINGS)


if __name__ == "__main__":
    cli.define_gin_flags()
    flags.DEFINE_string("out", None, "PNG file for the picture.")
    flags.DEFINE_string("json", None, "file for the numbers.")
    flags.DEFINE_integer("images", 256, "images to measure.", lower_bound=2)
    flags.DEFINE_integer("rows", 8, "images to show.", lower_bound=1)
    cli.run(main)
