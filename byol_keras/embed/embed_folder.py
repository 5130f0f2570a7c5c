"""Embeds a folder of images in parts, so that a killed run can be resumed.

Memory holds the features of one part and the names of all images. Parts are files in a
temporary folder beside the result.
"""

import json
import math
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from byol_keras.data import ImageData, image_folder
from byol_keras.embed import files
from byol_keras.embed.embedder import Embedder
from byol_keras.embed.files import Block
from byol_keras.export.digest import backbone_digest
from byol_keras.runtime.atomic_files import write_text, write_whole
from byol_keras.runtime.progress import ProgressBar

# Batches of images per part.
PART_BATCHES = 16


def images_for(backbone, path: str, **reading: Any) -> ImageData:
    """The images of a folder, with the channels of a backbone.

    Any share of them may be unreadable.

    Args:
        backbone: `keras.Model`.
        path: the folder.
        **reading: how the images of its training were read, see
            `embedder.trained_reading`.
    """
    shape = getattr(backbone, "input_shape", None)
    channels = shape[-1] if isinstance(shape, tuple) else None
    return image_folder(path, channels=channels, max_bad_share=1.0, **reading)


def embed_images(
    embedder: Embedder,
    data: ImageData,
    out: pathlib.Path,
    about: dict[str, Any],
    batch_size: int = 64,
) -> dict[str, str]:
    """Writes the embeddings of all readable images to a file; see `embed.files`.

    Args:
        embedder: an `Embedder`.
        data: the images of a folder.
        out: file to write. An existing file of the same images, backbone and settings
            is left unchanged.
        about: settings that the embeddings depend on, for JSON.
        batch_size: int. Images per forward pass.

    Returns:
        Path -> reason for each image that could not be read, and is not in the file.

    Raises:
        ValueError: if `out` is a file of other embeddings, or its folder cannot be
            written, or no image is readable.
    """
    about = {
        **about,
        "feature": embedder.feature,
        "backbone": backbone_digest(embedder.backbone),
        "images": data.digest(),
    }
    if out.exists():
        if files.read_about(out) != about:
            raise ValueError(
                "out must be a new file, or one of the same images, backbone and "
                f"settings. Received: {out}"
            )
        return {}
    parts = _Parts(out, data, batch_size, about)
    _make_parts(embedder, data, parts, batch_size)
    counts = [part.features.shape for part in parts.blocks()]
    count = sum(shape[0] for shape in counts)
    dimensions = max(shape[1] for shape in counts)
    files.write(out, parts.blocks, count, dimensions, about)
    bad = parts.bad()
    parts.remove()
    return bad


class _Parts:
    """The parts of a result, in files of a temporary folder."""

    def __init__(self, out, data, batch_size, about):
        self.folder = out.with_name(out.name + ".parts")
        self.images = batch_size * PART_BATCHES
        self.number = math.ceil(data.num_examples / self.images)
        identity = json.dumps({**about, "images_of_a_part": self.images})
        stored = self.folder / "about.json"
        try:
            if stored.exists() and stored.read_text() != identity:
                self.remove()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(stored, identity)
        except OSError as error:
            raise ValueError(
                "out must be a file in a folder that can be written. "
                f"Received: {out} ({error.strerror})"
            ) from error

    def done(self) -> int:
        """How many parts, counted from the first, are complete."""
        numbers = range(self.number)
        return next((n for n in numbers if not self._path(n).exists()), self.number)

    def write(self, number: int, block: Block, bad: dict[str, str]) -> None:
        arrays = {
            "features": block.features,
            "paths": np.array(block.paths, dtype=str),
            "bad": np.array(json.dumps(bad)),
        }
        write_whole(self._path(number), lambda partial: np.savez(partial, **arrays))

    def blocks(self) -> Iterator[Block]:
        for number in range(self.number):
            with np.load(self._path(number)) as arrays:
                yield Block(arrays["paths"].tolist(), arrays["features"])

    def bad(self) -> dict[str, str]:
        found = {}
        for number in range(self.number):
            with np.load(self._path(number)) as arrays:
                found |= json.loads(str(arrays["bad"]))
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _path(self, number):
        return self.folder / f"{number:06}.npz"


def _make_parts(embedder, data, parts, batch_size):
    """Writes the missing parts, in one pass over their images."""
    start = parts.done() * parts.images
    rest = data.num_examples - start
    if not rest:
        return

    def prepare(element):
        return embedder.transform(data.decode(element["image"]))

    stream = data.stream(seed=0, start=start, shuffle=False).take(rest)
    batches = stream.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    batches = batches.batch(batch_size).prefetch(2)
    held, place = [], start
    total = data.num_examples
    with ProgressBar("images", total, start, stderr=True, transient=True) as bar:
        for images in batches:
            held.append(embedder(images))
            place += len(images)
            bar.advance(len(images))
            if len(held) == PART_BATCHES or place == total:
                _write_part(data, parts, np.concatenate(held), place)
                held.clear()


def _write_part(data, parts, features, stop):
    """Writes a part that ends before image `stop`, without unreadable images."""
    start = stop - len(features)
    bad = {file.place: file for file in data.unreadable(start, stop)}
    # The stream has a substitute in place of each unreadable image.
    good = [place for place in range(start, stop) if place not in bad]
    names = [data.names[place] for place in good]
    block = Block(names, features[np.array(good, int) - start])
    reasons = {file.path: file.reason for file in bad.values()}
    parts.write(start // parts.images, block, reasons)
