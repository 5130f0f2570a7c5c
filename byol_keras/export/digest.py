"""Digests that identify backbones, and the digests of exported files."""

import contextlib
import hashlib
import json
import os
import pathlib
import zipfile

import keras

from byol_keras.export.backbone import find_backbone, load_backbone
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import ExportFolder, RunFolder

# A SavedModel's program, and the index of its weights, which has their checksums.
_SAVED_MODEL = ("saved_model.pb", "variables/variables.index")


def backbone_digest(backbone: keras.Model) -> str:
    """Hex digest of a backbone's weights and configuration.

    Args:
        backbone: a `keras.Model` from `export.load_backbone`.
    """
    programs = [layer for layer in backbone.layers if _is_program(layer)]
    digest = hashlib.sha256()
    for layer in programs:
        digest.update(pathlib.Path(layer.filepath, "saved_model.pb").read_bytes())
    if not programs:
        digest.update(backbone.to_json().encode())
    for weight in backbone.weights:
        value = keras.ops.convert_to_numpy(weight)
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _is_program(layer):
    """Whether a layer is a SavedModel, the configuration of which is only a path."""
    return isinstance(layer, keras.layers.TFSMLayer)


def note_digest(file: pathlib.Path, digest: str) -> None:
    """Stores the digest of an exported file beside it, for `exported_digests`.

    A file has several digests if it can be loaded in several ways: a SavedModel's own
    differs from that of the Keras model that it was written from. Nothing is stored
    where nothing can be written.

    Args:
        file: in an export folder: a file, or the folder of a SavedModel.
        digest: from `backbone_digest`.
    """
    folder = ExportFolder(file.parent)
    notes, content = _notes(folder), _content(file)
    known = notes.get(file.name, {})
    digests = known["digests"] if known.get("content") == content else []
    if digest not in digests:
        notes[file.name] = {"content": content, "digests": [*digests, digest]}
        with contextlib.suppress(OSError):
            write_text(folder.digests, json.dumps(notes, indent=1) + "\n")


def note_evaluated(
    path: str | os.PathLike, digest: str, model_dir: str | os.PathLike
) -> None:
    """Stores the digest of a loaded backbone if it is an export of a run.

    Args:
        path: that `load_backbone` has loaded.
        digest: of that backbone.
        model_dir: folder of the run.
    """
    found = find_backbone(pathlib.Path(path))
    file = found.parent if found.name == _SAVED_MODEL[0] else found
    if RunFolder(model_dir).export.resolve() in file.resolve().parents:
        note_digest(file, digest)


def exported_digests(folder: str | os.PathLike) -> set[str]:
    """Digests of the models in an export folder, all of the same weights.

    They are read from where `note_digest` stored them, unless a file has changed since.
    A `backbone.keras` without a digest is loaded, and its digest stored.

    Args:
        folder: of the export; see `runtime.run_folder.ExportFolder`.

    Returns:
        Hex digests; empty if there is no export, or it does not load.
    """
    exported = ExportFolder(folder)
    found = _noted(exported)
    backbone = exported.backbone
    if backbone.name not in found and backbone.is_file():
        try:
            digest = backbone_digest(load_backbone(backbone))
        except ValueError:
            return set()
        note_digest(backbone, digest)
        found[backbone.name] = [digest]
    return {digest for digests in found.values() for digest in digests}


def _noted(exported):
    """Stored digests by file, of the files that have not changed."""
    return {
        name: note["digests"]
        for name, note in _notes(exported).items()
        if note["content"] == _content(exported.path / name)
    }


def _notes(exported):
    """What `note_digest` has stored, by file; empty if it cannot be read."""
    try:
        found = json.loads(exported.digests.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _content(file):
    """What changes with the content of an exported file; None without the file.

    It is read without the weights where the format has checksums of them.
    """
    digest = hashlib.sha256()
    try:
        if file.is_dir():
            for name in _SAVED_MODEL:
                digest.update((file / name).read_bytes())
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for part in archive.infolist():
                    digest.update(f"{part.filename} {part.CRC:x}\n".encode())
        else:
            digest.update(file.read_bytes())
    except (OSError, zipfile.BadZipFile):
        return None
    return digest.hexdigest()
