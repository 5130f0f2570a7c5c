"""BYOL (Bootstrap Your Own Latent, arXiv 2006.07733) for Keras 3 on TensorFlow."""

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
from byol_keras.export import export_backbone, load_backbone
from byol_keras.losses import BYOLLoss
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard
from byol_keras.optimizers import LARS
from byol_keras.runtime import environment  # noqa: F401, sets variables, so it comes first
from byol_keras.views import TwoViews
from byol_keras.views.augmentations import (
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomResizedCrop

__version__ = "0.1.0"

__all__ = [
    "BYOL",
    "LARS",
    "BYOLLoss",
    "CollapseDoctor",
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "NonfiniteGuard",
    "RandomApply",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Solarize",
    "TargetEMA",
    "TwoViews",
    "export_backbone",
    "load_backbone",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
]
