"""Writes the report of a run, or a page that compares several.

    python -m byol_keras.report RUN [RUN...] [--out=FILE.html]

RUN is a run folder. The page contains everything it shows: it can be moved, mailed and
opened without a network. It is RUN/report.html for one run and comparison.html for
several, unless --out names another file.
"""

from absl import flags

from byol_keras.report import callback
from byol_keras.runtime import cli
from byol_keras.runtime.run_folder import RunFolder


def main(argv):
    """Parses flags and writes the page."""
    folders, out = argv[1:], flags.FLAGS.out
    with cli.user_errors():
        missing = callback.missing_libraries()
        if missing:
            raise ValueError(
                f"the report must have its libraries ({callback.how_to_install()}). "
                f"Received: no {', '.join(missing)}"
            )
        if not folders:
            raise ValueError("RUN must name a run folder, or several. Received: none")
        from byol_keras.report import page

        alone = len(folders) == 1
        default = RunFolder(folders[0]).report if alone else None
        print(page.write_page(folders, out or default or "comparison.html"))


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "file to write the page to.")
    flags.FLAGS.set_gnu_getopt(True)
    cli.run(main, with_paths=True)
