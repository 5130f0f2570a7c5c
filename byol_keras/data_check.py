"""Reads every image of a folder before a run does, and reports what it finds.

    python -m byol_keras.data_check --path=DIR [--json=FILE]

Exit code 0 if all images can be read, 1 if some cannot, 2 for a wrong argument.
"""

import collections
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console
from rich.table import Table

from byol_keras.data import decoding, value_range
from byol_keras.data.folder_contents import left_out
from byol_keras.data.image_bytes import (
    SUFFIXES,
    bits_of,
    format_of,
    orientation_of,
    readable,
)
from byol_keras.data.image_files import find_images
from byol_keras.data.orientation import upright_size
from byol_keras.data.reach import Reach
from byol_keras.data.unreadable import UNOPENED, load_image
from byol_keras.runtime import cli
from byol_keras.runtime.argument_checks import existing_folder
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.console import plain_console
from byol_keras.runtime.printable import printable
from byol_keras.runtime.progress import ProgressBar

EXIT_UNREADABLE = 1
# Files per block of work; only their results are kept in memory, not their pixels.
_BLOCK = 1024
# Entries printed per table; the JSON file has all of them.
_SHOWN = 20


class Image(NamedTuple):
    """The properties of one file.

    Args:
        flaw: why it cannot be read; None if it can. The rest is known only then.
        form: a key of `image_bytes.SUFFIXES`.
        size: height and width.
        channels: int. As stored: 1 or 2 for grey, 3 or 4 for colour.
        digest: hash of the contents.
        useless: why a model cannot learn from it, or None.
        dark: which values it has if these are a small part of more than 8 bits.
        orientation: see `image_bytes.orientation_of`.
    """

    flaw: str | None
    form: str | None = None
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    digest: bytes = b""
    useless: str | None = None
    dark: str | None = None
    orientation: int = 1


def check_folder(path: str | os.PathLike, threads: int | None = None) -> dict:
    """Reads all images below a folder and summarizes them.

    Args:
        path: the folder.
        threads: int. Images read in parallel. Defaults to the number of CPUs.

    Returns:
        A dict for JSON. `images` and `readable` are counts. `classes` (None without
        classes), `formats` and `channels` count the readable images. `height` and
        `width` have `min`, `median` and `max`. `unreadable` maps paths to reasons, and
        so do `useless`, of images of one pixel or one colour, and `dark`, of images of
        more than 8 bits with values in the lowest quarter of the range: only the upper
        8 bits are used unless `image_folder.bits` says otherwise. `misnamed` lists
        files with the suffix of another format; `duplicates` lists groups of paths of
        equal files. `left_out` counts the other files by ending. `turned` counts the
        JPEG, PNG and WebP images whose EXIF orientation is not 1.

    Raises:
        ValueError: if there is no such folder, or no image in it.
    """
    folder = existing_folder("path", path)
    found = find_images(folder)
    files = found.files
    has_classes = all("/" in file for file in files)
    counts = {name: collections.Counter() for name in ("class", "format", "channels")}
    sizes, first, equal = [], {}, collections.defaultdict(list)
    unreadable, useless, dark, misnamed, turned = {}, {}, {}, [], 0
    for file, image in zip(files, _inspected(folder, files, threads), strict=True):
        if image.flaw:
            unreadable[file] = image.flaw
            continue
        counts["class"][file.partition("/")[0]] += 1
        counts["format"][image.form] += 1
        counts["channels"][str(image.channels)] += 1
        sizes.append(image.size)
        turned += image.orientation != 1
        if image.useless:
            useless[file] = image.useless
        if image.dark:
            dark[file] = image.dark
        if not file.lower().endswith(SUFFIXES[image.form]):
            misnamed.append(file)
        origin = first.setdefault(image.digest, file)
        if origin != file:
            equal[origin].append(file)
    return {
        "path": str(folder),
        "images": len(files),
        "readable": len(files) - len(unreadable),
        "classes": dict(sorted(counts["class"].items())) if has_classes else None,
        "formats": dict(counts["format"].most_common()),
        "channels": dict(sorted(counts["channels"].items())),
        **_extremes(sizes),
        "unreadable": unreadable,
        "useless": useless,
        "dark": dark,
        "misnamed": misnamed,
        "duplicates": [[origin, *others] for origin, others in equal.items()],
        "left_out": dict(found.left_out.most_common()),
        "turned": turned,
    }


def inspect(path: str) -> Image:
    """Reads and decodes one file."""
    data, flaw = load_image(path)
    if flaw:
        return Image(flaw)
    turn = orientation_of(data)
    with tf.device("CPU"):
        (height, width, channels), pixels = _decoded(readable(data), turn)
    useless = None
    if height * width == 1:
        useless = "1 pixel"
    elif _is_one_colour(pixels):
        useless = "one colour"
    digest = hashlib.blake2b(data, digest_size=16).digest()
    size, dark = (height, width), None
    bits, most = bits_of(data), int(pixels.max())
    if useless is None and value_range.is_dark(most, bits):
        dark = f"{bits} bits, but at most {most} of 255 as it is read"
        dark += f"; {value_range.remedy(most)}" if bits == 16 else ""
    return Image(None, format_of(data), size, channels, digest, useless, dark, turn)


def print_report(report: dict, console: Console) -> None:
    """Prints a report of `check_folder`."""
    title = printable(report["path"])
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_row("images", f"{report['images']:,}")
    for name in ("unreadable", "useless", "dark", "misnamed"):
        table.add_row(name, f"{len(report[name]):,}")
    extra = sum(len(group) - 1 for group in report["duplicates"])
    table.add_row("duplicates", f"{extra:,} of {len(report['duplicates']):,} others")
    for name in ("formats", "channels"):
        counts = (f"{key}: {count:,}" for key, count in report[name].items())
        table.add_row(name, ", ".join(counts))
    for name in ("height", "width"):
        values = (f"{key} {value:,}" for key, value in report[name].items())
        table.add_row(name, ", ".join(values))
    table.add_row("turned by EXIF", f"{report['turned']:,}")
    console.print(table)
    others = left_out(collections.Counter(report["left_out"]))
    if others:
        console.print(others)
    classes = report["classes"] or {}
    _print_pairs(console, "class", "readable images", list(classes.items()))
    for name in ("unreadable", "useless", "dark"):
        _print_pairs(console, name, "reason", list(report[name].items()))
    misnamed = [(file, "") for file in report["misnamed"]]
    _print_pairs(console, "name of another format", "", misnamed)
    groups = [(group[0], ", ".join(group[1:])) for group in report["duplicates"]]
    _print_pairs(console, "image", "the same", groups)


def _inspected(folder, files: Sequence[str], threads) -> Iterator[Image]:
    paths = [os.path.join(folder, file) for file in files]
    reach = Reach(paths)

    def inspected(path):
        image = inspect(path)
        if image.flaw and image.flaw.startswith(UNOPENED):
            reach.wait(path)
            image = inspect(path)
        return image

    with (
        ThreadPoolExecutor(threads or os.cpu_count()) as pool,
        ProgressBar("images", len(paths), stderr=True, transient=True) as bar,
    ):
        for start in range(0, len(paths), _BLOCK):
            for image in pool.map(inspected, paths[start : start + _BLOCK]):
                bar.advance()
                yield image


def _decoded(data, turn):
    """Upright height and width, stored channels; the pixels without transparency."""
    if format_of(data) == "JPEG":
        height, width, channels = tf.io.extract_jpeg_shape(data).numpy().tolist()
        size = upright_size((height, width), turn)
        return (*size, channels), decoding.decode(data, 3).numpy()
    pixels = decoding.decode_as_stored(data).numpy()
    return pixels.shape, pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]


def _is_one_colour(pixels):
    first = pixels[:1, :1]
    # The first row decides for nearly all images.
    return (pixels[:1] == first).all() and (pixels == first).all()


def _extremes(sizes):
    """Minimum, median and maximum of heights and widths; empty without sizes."""
    if not sizes:
        return {"height": {}, "width": {}}
    kinds = {"min": np.min, "median": np.median, "max": np.max}
    return {
        name: {kind: function(values).item() for kind, function in kinds.items()}
        for name, values in zip(("height", "width"), np.transpose(sizes), strict=True)
    }


def _print_pairs(console, left, right, pairs):
    if not pairs:
        return
    table = Table(left, right, title_justify="left")
    for key, value in pairs[:_SHOWN]:
        value = f"{value:,}" if isinstance(value, int) else printable(value)
        table.add_row(printable(key), value)
    if len(pairs) > _SHOWN:
        table.add_row(f"and {len(pairs) - _SHOWN:,} more", "")
    console.print(table)


def main(_):
    """Parses flags, checks the folder, prints and writes the report."""
    path, file = flags.FLAGS.path, flags.FLAGS.json
    with cli.user_errors():
        if not path:
            raise ValueError("path must be the folder of images. Received: none")
        report = check_folder(path)
        if file:
            text = json.dumps(report, indent=1) + "\n"
            write_text(pathlib.Path(file), text)
    print_report(report, plain_console())
    if report["unreadable"]:
        sys.exit(EXIT_UNREADABLE)


if __name__ == "__main__":
    flags.DEFINE_string("path", None, "folder of images.")
    flags.DEFINE_string("json", None, "file for the complete report.")
    cli.run(main)
