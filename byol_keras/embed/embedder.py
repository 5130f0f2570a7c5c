"""A backbone with the preprocessing of its images."""

import ast
import functools
import os
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from byol_keras.benchmarks.frozen.features import check_finite, read_feature
from byol_keras.export import load_backbone
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.views.transforms import resize_center_crop

# Below this size images keep their border; larger ones lose 1/16 at each side, as in
# the benchmarks.
_THUMBNAIL = 64


class Embedder:
    """A backbone with the preprocessing that its images need.

    Args:
        backbone: `keras.Model`, float32 `[B, S, S, C]` in 0..1 -> features.
        transform: one image, uint8 `[h, w, C]` -> float32 `[S, S, C]` in 0..1.
        feature: name; see `frozen.features.read_feature`.
    """

    def __init__(self, backbone: keras.Model, transform: Callable, feature: str):
        self.backbone = backbone
        self.transform = transform
        self.feature = feature
        self._forward = tf.function(self._features, reduce_retracing=True)

    def __call__(self, images) -> np.ndarray:
        """Transformed images, float32 `[B, S, S, C]` -> features, float32 `[B, D]`."""
        features = self._forward(images).numpy()
        check_finite(features, "a batch")
        return features

    def _features(self, images):
        return read_feature(self.backbone(images, training=False), self.feature)


def make_embedder(
    model_dir: str | os.PathLike | None,
    backbone: str | os.PathLike | None = None,
    feature: str = "avgpool",
    size: int | None = None,
    resize: int | None = None,
) -> tuple[Embedder, dict[str, int]]:
    """Loads a backbone, and prepares images as in the run that trained it.

    Args:
        model_dir: run folder, or None.
        backbone: path for `export.load_backbone`; replaces the run's export.
        feature: name; see `frozen.features.read_feature`.
        size: int. Height and width of the backbone's input. Defaults to the size of the
            run's views.
        resize: int. Length of the short side before the center crop. Defaults to
            `default_resize(size)`.

    Returns:
        The embedder, and the sizes by name.

    Raises:
        ValueError: if there is no backbone, or the size is not known.
    """
    if not (model_dir or backbone):
        raise ValueError("model_dir or backbone must name a backbone. Received: none")
    if size is None:
        if not model_dir:
            raise ValueError(
                "size must be given for a backbone without model_dir. Received: none"
            )
        size = trained_size(model_dir)
    resize = resize or default_resize(size)
    if not 1 <= size <= resize:
        raise ValueError(
            f"size must be at least 1 and at most resize, {resize}. Received: {size}"
        )
    model = load_backbone(backbone or model_dir)
    transform = functools.partial(resize_center_crop, size=size, resize=resize)
    return Embedder(model, transform, feature), {"size": size, "resize": resize}


def trained_size(model_dir: str | os.PathLike) -> int:
    """Height and width in pixels of the views of a run.

    Args:
        model_dir: run folder, with its operative configuration.

    Raises:
        ValueError: if the configuration has no size of a crop, or several.
    """
    file = RunFolder(model_dir).operative_config
    text = file.read_text() if file.exists() else ""
    found = set(re.findall(r"^(?:\w+/)*RandomResizedCrop\.size = (.+)$", text, re.M))
    for name in {value for value in found if value.startswith("%")}:
        bound = re.search(rf"^{re.escape(name[1:])} = (.+)$", text, re.M)
        found = (found - {name}) | ({bound[1]} if bound else set())
    sizes = {ast.literal_eval(value) for value in found}
    if len(sizes) != 1 or not isinstance(size := sizes.pop(), int):
        raise ValueError(
            "size must be given unless the run was trained on square crops of one "
            f"size. Received: none, and {sorted(found) or 'no size'} in {file}"
        )
    return size


def trained_reading(model_dir: str | os.PathLike | None) -> dict[str, Any]:
    """The arguments of `image_folder` on orientation and bits that a run has bound.

    Only those that are not at their defaults; none without a run.
    """
    if not model_dir:
        return {}
    file = RunFolder(model_dir).operative_config
    text = file.read_text() if file.exists() else ""
    found = {}
    for name, default in (("exif_orientation", True), ("bits", None)):
        pattern = rf"^(?:\w+/)*image_folder\.{name} = (\w+)$"
        values = {ast.literal_eval(value) for value in re.findall(pattern, text, re.M)}
        if len(values) == 1 and values != {default}:
            found[name] = values.pop()
    return found


def default_resize(size: int) -> int:
    """Length of the short side before the center crop to `size` x `size`."""
    return size if size < _THUMBNAIL else round(size * 8 / 7)
