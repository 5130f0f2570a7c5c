"""Two augmented views of every image, and the layers that produce them."""

from byol_keras.views.augmentations import (
    RandomApply,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from byol_keras.views.augmented_view import AugmentedView
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Lighting, Solarize
from byol_keras.views.crops import RandomCrop, RandomResizedCrop
from byol_keras.views.two_views import TwoViews

__all__ = [
    "AugmentedView",
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "Lighting",
    "RandomApply",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Solarize",
    "TwoViews",
    "augmentations",
    "augmented_view",
    "blurs",
    "checks",
    "colors",
    "crops",
    "pipeline",
    "transforms",
]
