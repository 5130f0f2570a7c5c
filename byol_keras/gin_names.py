"""The modules whose functions and classes gin files may name.

Importing this registers all of them; a new module that registers names gets a line.
"""

# ruff: noqa: F401
from byol_keras import (
    augmentations,
    augmented_view,
    backbones,
    benchmarks,
    blurs,
    byol,
    callbacks,
    colors,
    crops,
    data,
    doctor,
    evaluation_callbacks,
    externals,
    guards,
    labelled_lists,
    optimizers,
    report,
    schedules,
    subsets,
    views,
)
