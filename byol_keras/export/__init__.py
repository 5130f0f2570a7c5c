"""Writes a backbone as `.keras` and SavedModel; `load_backbone` reads both back."""

from byol_keras.export.backbone import (
    OtherChannels,
    export_backbone,
    image_shape,
    load_backbone,
    pretrained_backbone,
    reinitialized,
    save_saved_model,
)

__all__ = [
    "OtherChannels",
    "digest",
    "export_backbone",
    "image_shape",
    "load_backbone",
    "model_card",
    "pretrained_backbone",
    "reinitialized",
    "save_saved_model",
]
