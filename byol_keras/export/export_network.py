"""Exports a network of a run in one format, with a check and a model card."""

import contextlib
import os
import pathlib

from byol_keras.export import formats, image_shape
from byol_keras.export.digest import backbone_digest, note_digest
from byol_keras.export.model_card import write_card
from byol_keras.export.networks import network_of_run
from byol_keras.runtime.run_folder import RunFolder


def export_network(
    model_dir: str | os.PathLike,
    file_format: str,
    network: str,
    part: str,
    size: int,
    licence: str | None = None,
) -> pathlib.Path:
    """Writes `export/<network>_<part>_<format>/` in a run folder.

    Args:
        model_dir: run folder of a finished run.
        file_format: a key of `formats.FORMATS`.
        network, part: see `network_of_run`.
        size: int. Height and width in pixels of the images for the check, and of all
            images for a LiteRT model.
        licence: for the model card.

    Returns:
        The folder, with the model and its card.

    Raises:
        ValueError: see `formats.check_format` and `network_of_run`.
        RuntimeError: if the outputs of the export differ from the model's; nothing is
            written then.
    """
    formats.check_format(file_format)
    model = network_of_run(model_dir, network, part)
    folder = RunFolder(model_dir).exported(network, part, file_format)
    path = folder / formats.FORMATS[file_format][0]
    with _new_folder(folder):
        worst = formats.write(model, file_format, path, size)
    note_digest(path, backbone_digest(model))
    sides = f"{size}, {size}" if file_format == "tflite" else "H, W"
    facts = {
        "file": path.name,
        "network": f"{network}, {part}",
        "input": f"float32 [B, {sides}, {image_shape(model)[-1]}] in 0..1",
        "outputs": ", ".join(formats.names_of(model)),
        "checked": f"within {worst:.1e} of Keras's outputs on random images",
    }
    write_card(model_dir, folder, f"BYOL, {network} {part}", facts, licence)
    return folder


@contextlib.contextmanager
def _new_folder(folder):
    """Makes a folder, and removes it after a failure if it is empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            "model_dir must be a folder that can be written. "
            f"Received: {folder} ({error.strerror})"
        ) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
