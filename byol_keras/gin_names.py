"""The functions and classes that gin files can name.

Importing this module registers them: those of this package, and the optimizers,
callbacks and layers of Keras and keras-cv that are listed below, as
`@keras.optimizers.AdamW`. The last part of a name is enough where it is unique. Layers
of keras-cv with the name of one of ours are `@keras_cv.layers.RandomFlip`; bind
`value_range = (0, 1)` where they take it. A command that runs benchmarks imports
`byol_keras.benchmarks` as well.
"""

import gin
import keras
import keras_cv

# ruff: noqa: F401, imports that register names
from byol_keras import (
    backbones,
    byol,
    callbacks,
    data,
    keras_backbones,
    optimizers,
    report,
    schedules,
    views,
)
from byol_keras.data import published, subsets
from byol_keras.monitoring import collapse, nonfinite
from byol_keras.training import evaluation
from byol_keras.views import augmentations, augmented_view, blurs, colors, crops

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
