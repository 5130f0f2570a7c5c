"""The classes of Keras and keras-cv that a gin file may name.

Importing this module registers them, as `@keras.optimizers.AdamW` and so on; the last
part of the name is enough where it is unique. Layers of keras-cv whose names ours
share are `@keras_cv.layers.RandomFlip`; bind `value_range = (0, 1)` where they take it.
"""

import gin
import keras
import keras_cv

OPTIMIZERS = ("Adam", "AdamW", "Lamb", "Lion", "RMSprop", "SGD")
CALLBACKS = ("CSVLogger", "EarlyStopping", "TerminateOnNaN")
# keras-cv 0.9.0, image layers that keep the size. Their draws are not reproducible.
AUGMENTATIONS = (
    "AugMix",
    "AutoContrast",
    "ChannelShuffle",
    "Equalization",
    "GridMask",
    "Posterization",
    "RandomBrightness",
    "RandomChannelShift",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCutout",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomHue",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "Solarization",
)

for _module, _name, _classes in (
    (keras.optimizers, "keras.optimizers", OPTIMIZERS),
    (keras.callbacks, "keras.callbacks", CALLBACKS),
    (keras_cv.layers, "keras_cv.layers", AUGMENTATIONS),
):
    for _class in _classes:
        gin.external_configurable(getattr(_module, _class), module=_name)
