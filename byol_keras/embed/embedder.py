"""Embeds a folder of images: part by part, so that a run that is killed goes on.

Memory holds one part, whatever the number of images, besides their names. Parts lie in
a folder beside the result until that is whole.
"""

import json
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich import progress
from rich.console import Console

from byol_keras.benchmarks.frozen.features import read_feature
from byol_keras.embed import files
from byol_keras.embed.files import Block
from byol_keras.export.digest import backbone_digest
from byol_keras.runtime.atomic_files import write_text, write_whole

# Batches of images whose embeddings are written at once.
PART_BATCHES = 16


class Embedder:
    """A backbone and what it takes to feed it an image of any size.

    Args:
        backbone: `keras.Model`, float32 `[B, S, S, C]` in 0..1 -> features.
        transform: one image, uint8 `[h, w, C]` -> float32 `[S, S, C]` in 0..1.
        feature: name; see `benchmarks.features.read_feature`.
    """

    def __init__(self, backbone: keras.Model, transform: Callable, feature: str):
        self.backbone = backbone
        self.transform = transform
        self.feature = feature
        self._forward = tf.function(self._features, reduce_retracing=True)

    def __call__(self, images) -> np.ndarray:
        """float32 `[B, D]` of images that are transformed, float32 `[B, S, S, C]`."""
        return self._forward(images).numpy()

    def _features(self, images):
        return read_feature(self.backbone(images, training=False), self.feature)


def embed(
    embedder: Embedder,
    data,
    out: pathlib.Path,
    about: dict[str, Any],
    batch_size: int = 64,
) -> dict[str, str]:
    """Writes the embeddings of all images that can be read; see `embedding_file`.

    Args:
        embedder: an `Embedder`.
        data: `image_data.ImageData` of files.
        out: the file. What is there already is left, if it is of the same images and
            of the same backbone.
        about: what else the embeddings are a function of, in terms of JSON.
        batch_size: int. Images per forward pass.

    Returns:
        Path -> reason, of the images that cannot be read and are not in the file.

    Raises:
        ValueError: if another file of that name is there already, or there is not a
            single image that can be read.
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
                "--out must be a new file, or of the same images, backbone and "
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
    """Files of so many images each, of which the first ones are there already."""

    def __init__(self, out, data, batch_size, about):
        self.folder = out.with_name(out.name + ".parts")
        self.images = batch_size * PART_BATCHES
        self.number = math.ceil(data.num_examples / self.images)
        identity = json.dumps({**about, "images_of_a_part": self.images})
        stored = self.folder / "about.json"
        if stored.exists() and stored.read_text() != identity:
            self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(stored, identity)

    def done(self) -> int:
        """How many parts are there, from the first one on."""
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
    """Makes the parts that are missing, in one pass over their images."""
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
    with progress.Progress(transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("images", total=data.num_examples, completed=start)
        for images in batches:
            held.append(embedder(images))
            place += len(images)
            bar.advance(task, len(images))
            if len(held) == PART_BATCHES or place == data.num_examples:
                _write_part(data, parts, np.concatenate(held), place)
                held.clear()


def _write_part(data, parts, features, stop):
    """Writes the features of the images before `stop`, without the bad ones."""
    start = stop - len(features)
    found = data.source.files.bad
    paths = data.source.files.paths[start:stop]
    # In place of a bad image another one has been read.
    good = np.array([path not in found for path in paths])
    names = np.array(data.names[start:stop])[good].tolist()
    bad = {path: found[path] for path in paths if path in found}
    parts.write(start // parts.images, Block(names, features[good]), bad)
