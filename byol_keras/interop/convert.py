"""Converts weights between files of other systems and backbones of ours."""

import math
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from byol_keras.export import load_backbone
from byol_keras.interop.export_torchvision import torchvision_arrays
from byol_keras.interop.files import import_safetensors, read_file
from byol_keras.interop.import_resnet import Imported, import_backbone
from byol_keras.runtime.atomic_files import write_whole
from byol_keras.runtime.run_folder import check_local


class Written(NamedTuple):
    """The content of a safetensors file.

    Args:
        shapes: by name of the tensor.
        metadata: text by name.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    @property
    def numbers(self) -> int:
        """How many numbers all tensors have together."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def to_keras(
    source: str | os.PathLike, target: str | os.PathLike, **options
) -> Imported:
    """Writes the backbone in a file of another system as `.keras`.

    Args:
        source: file of weights; see `read_file`.
        target: file to write.
        **options: of `import_backbone`.

    Raises:
        ValueError: if the source cannot be read or does not fit. Nothing is written.
    """
    imported = import_backbone(read_file(source), **options)
    _write(target, imported.backbone.save)
    return imported


def to_safetensors(source: str | os.PathLike, target: str | os.PathLike) -> Written:
    """Writes one of our ResNets with torchvision's names of tensors.

    Args:
        source: path of the backbone; see `load_backbone`.
        target: file to write.

    Raises:
        ValueError: if the backbone does not load, or torchvision has no such model.
    """
    safetensors = import_safetensors()
    arrays, metadata = torchvision_arrays(load_backbone(source))
    _write(target, lambda path: safetensors.numpy.save_file(arrays, path, metadata))
    return Written({name: array.shape for name, array in arrays.items()}, metadata)


def _write(target, write: Callable[[pathlib.Path], object]) -> None:
    check_local("target", target)
    path = pathlib.Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)
