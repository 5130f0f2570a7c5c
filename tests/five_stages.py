"""A tiny backbone with every feature of ours and weights to train."""

import keras

from byol_keras.export import export_backbone


def export_five_stages(folder):
    """Exports it, of three channels, and returns the path of the `.keras` file."""
    images = maps = keras.Input((None, None, 3))
    features = {}
    for stage in range(1, 6):
        strides = 2 if stage < 5 else 1
        maps = keras.layers.Conv2D(2, 3, strides, padding="same")(maps)
        features[f"feature{stage}"] = maps
    features["avgpool"] = keras.layers.GlobalAveragePooling2D()(maps)
    export_backbone(keras.Model(images, features), folder)
    return str(folder / "backbone.keras")
