"""The modules whose functions and classes gin files may name.

Importing this registers all of them; a new module that registers names gets a line.
"""

# ruff: noqa: F401
from byol_keras import (
    backbones,
    benchmarks,
    byol,
    callbacks,
    data,
    externals,
    optimizers,
    report,
    schedules,
    views,
)
from byol_keras.data import published, subsets
from byol_keras.monitoring import collapse, nonfinite
from byol_keras.training import evaluation
from byol_keras.views import augmentations, augmented_view, blurs, colors, crops
