"""Exports a network of a run in a format, checks it, and writes a model card.

    python -m byol_keras.export --model_dir=DIR --format=onnx [--network=target] \
        [--part=projector]

Formats: keras, saved_model, onnx, tflite (LiteRT). The export is compared with the
model on random images before the command ends.
"""

import pathlib

from absl import app, flags

from byol_keras.export import formats, networks
from byol_keras.export.model_card import write_card
from byol_keras.runtime import cli
from byol_keras.runtime.run_folder import ExportFolder, RunFolder, check_model_dir


def export(
    run_folder: pathlib.Path,
    form: str,
    network: str,
    part: str,
    size: int,
    licence: str | None = None,
) -> pathlib.Path:
    """Writes `export/<network>_<part>_<format>/` in a run folder.

    Args:
        run_folder: of a run that has ended.
        form: a key of `formats.FORMATS`.
        network, part: see `networks.network_of_run`.
        size: int. Pixels of the images to check with; of a LiteRT model, to take.
        licence: for the model card.

    Returns:
        The folder, with the model and `MODEL_CARD.md`.

    Raises:
        ValueError: see `formats.check_format` and `networks.network_of_run`.
        RuntimeError: if the export computes something else than the model.
    """
    formats.check_format(form)
    model = networks.network_of_run(run_folder, network, part)
    folder = RunFolder(run_folder).exported(network, part, form)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / formats.FORMATS[form][0]
    formats.write(model, form, path, size)
    worst = formats.check(model, form, path, size)
    sides = f"{size}, {size}" if form == "tflite" else "H, W"
    facts = {
        "file": path.name,
        "network": f"{network}, {part}",
        "input": f"float32 [B, {sides}, {model.inputs[0].shape[-1]}] in 0..1",
        "outputs": ", ".join(sorted(formats.names_of(model))),
        "checked": f"within {worst:.1e} of Keras's outputs on random images",
    }
    title = f"BYOL, {network} {part}"
    write_card(run_folder, folder, title, facts, licence)
    return folder


def main(_):
    """Parses flags and exports."""
    given = flags.FLAGS
    with cli.user_errors((ValueError, OSError)):
        check_model_dir(given.model_dir)
        folder = export(
            pathlib.Path(given.model_dir),
            given.format,
            given.network,
            given.part,
            given.size,
            given.licence,
        )
    print(ExportFolder(folder).model_card.read_text().partition("\n## Scores")[0])
    print(f"exported to {folder}")


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "run folder.")
    flags.DEFINE_string("format", "onnx", ", ".join(formats.FORMATS))
    flags.DEFINE_string("network", "online", ", ".join(networks.NETWORKS))
    flags.DEFINE_string("part", "backbone", ", ".join(networks.PARTS))
    flags.DEFINE_integer("size", 224, "pixels of the images.", lower_bound=1)
    flags.DEFINE_string("licence", None, "of the weights, for the model card.")
    app.run(main, flags_parser=cli.parse_flags)
