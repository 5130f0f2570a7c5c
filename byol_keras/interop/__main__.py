"""Converts weights of other systems to a backbone, and a backbone to their format.

    python -m byol_keras.interop --from=FILE --to=backbone.keras
    python -m byol_keras.interop --from=backbone.keras --to=FILE.safetensors

`FILE` is a checkpoint of DeepMind's BYOL (.pkl), of mmselfsup, mmpretrain, torchvision,
timm, lightly or solo-learn (.pth, .pth.tar, .ckpt), or a safetensors file. No code from
a file is executed. Exit code 0 on success; 2 for a user's mistake and for a file that
does not fit, and then nothing is written.
"""

import collections
import json
import pathlib

from absl import flags
from rich.console import Console
from rich.table import Table

from byol_keras.interop.convert import to_keras, to_safetensors
from byol_keras.interop.import_resnet import Imported, summary
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.console import plain_console

NORMALIZATIONS = {"imagenet": (None, None), "none": ([0.0], [1.0])}
# Names printed for each reason to leave tensors out; the JSON file has all names.
_SHOWN = 3


def print_imported(title: str, imported: Imported, console: Console) -> None:
    """Prints what was read from a file, and what was left out."""
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


def _convert(source, target, console):
    """Converts by the ending of the target; returns a summary for JSON."""
    suffix = pathlib.Path(target).suffix
    if suffix == ".keras":
        imported = to_keras(source, target, **_options())
        print_imported(f"{source}, {imported.kind}", imported, console)
        return summary(imported)
    if suffix == ".safetensors":
        found = to_safetensors(source, target)
        console.print(
            f"{source}: {len(found.shapes)} tensors, {found.numbers:,} numbers"
        )
        settings = found.metadata["byol_keras"]
        console.print(f"stem, mean and std are in the metadata: {settings}")
        return {"written": found.shapes, "metadata": found.metadata}
    raise ValueError(f"--to must end in .keras or .safetensors. Received: {target}")


def _options():
    """The options of `import_backbone`, from the flags."""
    mean, std = NORMALIZATIONS[flags.FLAGS.normalization]
    return {
        "network": flags.FLAGS.network,
        "stem": flags.FLAGS.stem,
        "mean": _numbers("mean") or mean,
        "std": _numbers("std") or std,
        "leave_out": flags.FLAGS.leave_out,
    }


def _numbers(flag):
    """The numbers of a flag; None if it is not given."""
    words = flags.FLAGS[flag].value or ()
    try:
        return [float(word) for word in words] or None
    except ValueError as error:
        raise ValueError(
            f"--{flag} must be numbers separated by commas. Received: {','.join(words)}"
        ) from error


def main(_):
    """Parses flags, converts, and prints what was used and what was left out."""
    source, target = flags.FLAGS["from"].value, flags.FLAGS.to
    with cli.user_errors():
        for name, value in (("from", source), ("to", target)):
            if not value:
                raise ValueError(f"--{name} must name a file. Received: none")
        report = _convert(source, target, plain_console())
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
        "how the network's training images were normalized.",
    )
    flags.DEFINE_list("mean", None, "its mean per channel, on the 0..1 scale.")
    flags.DEFINE_list("std", None, "its standard deviation per channel.")
    flags.DEFINE_multi_string(
        "leave_out", [], "prefix of the names of tensors outside of the network."
    )
    flags.DEFINE_string("json", None, "file for a list of what each tensor was for.")
    cli.rename_arguments(
        **dict.fromkeys(("source", "file", "path", "backbone"), "from"), target="to"
    )


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
