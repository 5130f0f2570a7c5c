"""Weights from other systems as a backbone, and back.

    python -m byol_keras.interop --from=FILE --to=backbone.keras
    python -m byol_keras.interop --from=backbone.keras --to=FILE.safetensors

`FILE` is a checkpoint of DeepMind's BYOL (.pkl), of mmselfsup, mmpretrain, torchvision,
timm, lightly or solo-learn (.pth, .pth.tar, .ckpt), or a safetensors file. Nothing that
a file names is run. Exit code 0 on success, 2 for a mistake or for a file that does not
fit; then nothing is written.
"""

import collections
import json
import math
import pathlib

from absl import app, flags
from rich.console import Console
from rich.table import Table

from byol_keras.export import load_backbone
from byol_keras.interop.export_torchvision import torchvision_arrays
from byol_keras.interop.files import import_safetensors, read_file
from byol_keras.interop.import_resnet import Imported, import_backbone, summary
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text, write_whole

NORMALIZATIONS = {"imagenet": (None, None), "none": ([0.0], [1.0])}
# So many names of a kind are printed; the JSON file has all.
_SHOWN = 3


def to_keras(source: str, target: str, console: Console, **options) -> dict:
    """Writes the backbone of another system's file as `.keras`.

    Args:
        source: path of the file.
        target: path to write to.
        console: to print to what has become of each tensor.
        **options: of `foreign_weights.import_backbone`.

    Returns:
        `foreign_weights.summary`.

    Raises:
        ValueError: if the file is not one that can be read, or does not fit.
    """
    file = read_file(source)
    imported = import_backbone(file, **options)
    _write(target, imported.backbone.save)
    _print_summary(f"{source}, {file.kind}", imported, console)
    return summary(imported)


def to_safetensors(source: str, target: str, console: Console) -> dict:
    """Writes one of our ResNets under torchvision's names.

    Args:
        source: what `load_backbone` takes.
        target: path to write to.
        console: to print to.

    Returns:
        A dict: `written` maps tensors to their shapes, `metadata` is the file's.

    Raises:
        ValueError: if the backbone has no counterpart in torchvision.
    """
    safetensors = import_safetensors()
    arrays, metadata = torchvision_arrays(load_backbone(source))

    def write(path):
        safetensors.numpy.save_file(arrays, str(path), metadata)

    _write(target, write)
    numbers = sum(map(math.prod, (values.shape for values in arrays.values())))
    console.print(f"{source}: {len(arrays)} tensors, {numbers:,} numbers")
    console.print(f"normalisation is not among them: {metadata['byol_keras']}")
    return {
        "written": {name: list(values.shape) for name, values in arrays.items()},
        "metadata": metadata,
    }


def _write(target, write):
    path = pathlib.Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)


def _print_summary(title: str, imported: Imported, console: Console) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for _ in range(2):
        table.add_column(overflow="fold")
    settings = dict(imported.settings)
    prefix, scheme = imported.network.prefix, imported.network.scheme
    table.add_row("network", f"{prefix or 'the only one'}, names of {scheme.title}")
    table.add_row("backbone", f"resnet{settings.pop('depth')}")
    for name in ("mean", "std"):
        settings[name] = settings[name] or "ImageNet's"
    for name, value in settings.items():
        table.add_row(name, str(value))
    types = collections.Counter(imported.used.values())
    for kind, count in types.items():
        note = "" if kind == "float32" else ", now float32"
        table.add_row("used", f"{count} tensors of {kind}{note}")
    for reason, names in summary(imported)["left_out"].items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown = ", ".join(names[:_SHOWN]) + more
        table.add_row(f"left out: {reason}", f"{len(names)}: {shown}")
    console.print(table)


def _numbers(flag):
    """The numbers of a flag, or None."""
    try:
        return [float(part) for part in flags.FLAGS[flag].value or ()] or None
    except ValueError as error:
        raise ValueError(
            f"--{flag} must be numbers with commas between. "
            f"Received: {','.join(flags.FLAGS[flag].value)}"
        ) from error


def _options():
    mean, std = NORMALIZATIONS[flags.FLAGS.normalization]
    return {
        "network": flags.FLAGS.network,
        "stem": flags.FLAGS.stem,
        "mean": _numbers("mean") or mean,
        "std": _numbers("std") or std,
        "leave_out": flags.FLAGS.leave_out,
    }


def main(_):
    """Parses flags, converts, and writes what has become of each tensor."""
    source, target = flags.FLAGS["from"].value, flags.FLAGS.to
    with cli.user_errors():
        for name, value in (("from", source), ("to", target)):
            if not value:
                raise ValueError(f"--{name} must name a file. Received: none")
        # Names of tensors may look like markup.
        console, suffix = Console(markup=False), pathlib.Path(target).suffix
        if suffix == ".keras":
            report = to_keras(source, target, console, **_options())
        elif suffix == ".safetensors":
            report = to_safetensors(source, target, console)
        else:
            raise ValueError(
                f"--to must end in .keras or .safetensors. Received: {target}"
            )
        if flags.FLAGS.json:
            text = json.dumps(report, indent=1) + "\n"
            write_text(pathlib.Path(flags.FLAGS.json), text)


def _define_flags():
    flags.DEFINE_string("from", None, "file of weights.")
    flags.DEFINE_string("to", None, "file to write, .keras or .safetensors.")
    flags.DEFINE_string(
        "network", "online", 'which ResNet: "online", "target", or a prefix of names.'
    )
    flags.DEFINE_string("stem", None, 'of a 3x3 kernel: "cifar" or "small".')
    flags.DEFINE_enum(
        "normalization",
        "imagenet",
        list(NORMALIZATIONS),
        "what the images went through.",
    )
    flags.DEFINE_list("mean", None, "its mean per channel, on the 0..1 scale.")
    flags.DEFINE_list("std", None, "its standard deviation per channel.")
    flags.DEFINE_multi_string(
        "leave_out", [], "beginning of names of tensors outside of the network."
    )
    flags.DEFINE_string("json", None, "file for what has become of each tensor.")


if __name__ == "__main__":
    _define_flags()
    app.run(main, flags_parser=cli.parse_flags)
