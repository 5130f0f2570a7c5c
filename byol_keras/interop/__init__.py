"""Weights of other systems: read theirs, and write ours in their format."""

from byol_keras.interop.convert import to_keras, to_safetensors
from byol_keras.interop.export_torchvision import torchvision_arrays
from byol_keras.interop.files import ForeignFile, read_file
from byol_keras.interop.import_resnet import Imported, import_backbone

__all__ = [
    "ForeignFile",
    "Imported",
    "import_backbone",
    "read_file",
    "to_keras",
    "to_safetensors",
    "torchvision_arrays",
]
