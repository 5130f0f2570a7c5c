"""BYOL (Bootstrap Your Own Latent, arXiv 2006.07733) for Keras 3 on TensorFlow.

    import byol_keras as bk

The package has the names that a training script needs. The sub-packages `bk.data`,
`bk.views`, `bk.benchmarks` and `bk.interop`, and the names that come from `bk.views`,
are imported when they are first used: views need keras-cv.
"""

import importlib
from typing import TYPE_CHECKING

from byol_keras.runtime import environment  # noqa: F401, before TensorFlow

# isort: split
from byol_keras.backbones import (
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet200,
)
from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA
from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.data import image_folder
from byol_keras.export import export_backbone, load_backbone
from byol_keras.keras_backbones import keras_application
from byol_keras.losses import BYOLLoss
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard
from byol_keras.optimizers import LARS, MomentumSGD
from byol_keras.schedules import RunLength, WarmupCosine
from byol_keras.training.evaluation import BenchmarkEachEpochs, OnlineProbe
from byol_keras.version import __version__

if TYPE_CHECKING:
    from byol_keras.views import (
        ColorJitter,
        GaussianBlur,
        Grayscale,
        RandomApply,
        RandomCrop,
        RandomHorizontalFlip,
        RandomResizedCrop,
        RandomVerticalFlip,
        Solarize,
        TwoViews,
    )

_SUB_PACKAGES = ("benchmarks", "data", "interop", "views")

__all__ = [
    "BYOL",
    "LARS",
    "BYOLLoss",
    "BenchmarkEachEpochs",
    "Checkpoints",
    "CollapseDoctor",
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "MomentumSGD",
    "NonfiniteGuard",
    "OnlineProbe",
    "RandomApply",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "RunLength",
    "Solarize",
    "TargetEMA",
    "TwoViews",
    "WarmupCosine",
    "__version__",
    "export_backbone",
    "image_folder",
    "keras_application",
    "load_backbone",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
]


def __getattr__(name):
    if name in _SUB_PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:  # not imported above, so it is a view
        return getattr(importlib.import_module(f"{__name__}.views"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_SUB_PACKAGES})
