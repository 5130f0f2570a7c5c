"""The parts of a small run, as functions, without gin."""

import dataclasses
import functools

import keras

from byol_keras import BYOL, RandomResizedCrop, TargetEMA, TwoViews
from byol_keras.training.build import Factories, Run, Settings, build_run

from support.datasets import make_arrays
from support.models import tiny_backbone


def views() -> TwoViews:
    """Crops of 8 x 8 pixels."""
    crops = [RandomResizedCrop(size=8)]
    return TwoViews(crops, crops)


SETTINGS = Settings(
    epochs=3,
    batch_size=4,
    last_batch="carry",
    seed=0,
    precision="float32",
    jit_compile=False,
    deterministic=False,
    log_every_steps=5,
)
PARTS = Factories(
    dataset_fn=make_arrays,
    views_fn=views,
    backbone_fn=tiny_backbone,
    model_fn=functools.partial(BYOL, hidden_units=8, output_units=4),
    optimizer_fn=keras.optimizers.SGD,
    learning_rate_fn=lambda run_length: 0.1,
    target_ema_fn=TargetEMA,
    callbacks=[],
    guard_fn=None,
    doctor_fn=None,
    report_fn=None,
)


def build(settings=None, model_dir=None, **parts) -> Run:
    """A run of 8 steps, with other settings or parts where they are given."""
    return build_run(
        model_dir,
        "cpu",
        dataclasses.replace(PARTS, **parts),
        dataclasses.replace(SETTINGS, **(settings or {})),
    )
