"""Runs in this process, run folders and what they hold."""

import json
import os
import pathlib
import signal

import gin
import keras
import numpy as np
import tensorflow as tf

from support import (
    ROOT,
    models,  # noqa: F401, registers the backbones of tiny.gin
)
from support.datasets import BATCH, make_arrays, small_views

FASHION_MNIST = ROOT / "gin/pretrain/fashion_mnist_small_resnet18.gin"
# 3 epochs of 2 or 3 steps.
TINY = ROOT / "tests/support/tiny.gin"
# What the clock says, which no second run says again.
TIMED = {
    "images_per_second",
    "input_wait_share",
    "flops_per_second",
    "flops_utilization",
}


def metrics(model_dir) -> list[dict]:
    """Lines of `metrics.jsonl`."""
    lines = (pathlib.Path(model_dir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def untimed_metrics(model_dir) -> list[dict]:
    """Lines of `metrics.jsonl` without what the clock says."""
    return [
        {name: value for name, value in line.items() if name not in TIMED}
        for line in metrics(model_dir)
    ]


def tensorboard_scalars(model_dir, tag: str = "loss") -> list[tuple[int, float]]:
    """Steps and values of a tag, as TensorBoard shows them."""
    from tensorboard.backend.event_processing import event_accumulator

    shown = event_accumulator.EventAccumulator(
        str(pathlib.Path(model_dir) / "logs"),
        size_guidance={event_accumulator.SCALARS: 0},  # every step
    )
    shown.Reload()
    return [(event.step, event.value) for event in shown.Scalars(tag)]


# One red pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4"
    "z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
RECORD = {
    "results": {
        "random_init": {"knn/top1_k20": 73.35},
        "trained": {"knn/top1_k20": 81.55},
    },
    "interval": {},
    "seeds": [0],
    "missing": {},
    "seconds": 12.5,
    "commit": "0123abcd",
    "identity": {"backbone": "5ca1ab1e", "baselines": ["random_init"], "seeds": [0]},
}
START = {
    "command": "python -m byol_keras.train --gin_file=gin/pretrain/quickstart.gin",
    "time": "2026-01-02T03:04:05+00:00",
    "step": 0,
    "total_steps": 40,
    "plan": {"batch": "128 = 1 replicas"},
    "recipe": "gin/pretrain/quickstart.gin",
    "differences": {"train.epochs": ["36", "4"]},
    "commit": "0123abcd",
    "seconds": 90.0,
    "versions": {"python": "3.11.7", "tensorflow": "2.21.0"},
    "machine": {"platform": "Linux x86_64", "cpus": 2, "devices": ["CPU"]},
}
HEALTH = {
    "first": {"step": 0, "monitor/projection_rankme": 72.5},
    "latest": {"step": 30, "monitor/projection_rankme": 24.125},
    "verdict": "shrinking",
    "causes": ["the weight decay is too high"],
    "changes": [
        {"step": 10, "verdict": "healthy", "causes": []},
        {"step": 30, "verdict": "shrinking", "causes": []},
    ],
}
CONFIG = """# Parameters for train:
train.batch_size = 128
train.epochs = {epochs}
TwoViews.view1 = \\
    [@RandomResizedCrop(),
     @jitter/RandomApply()]

RATE = 0.5
"""


def lines(loss: float = 1.0) -> list[dict]:
    """Lines of `metrics.jsonl`: 40 steps, logged every 10th, a score at the end."""
    steps = [
        {
            "step": step,
            "epoch": step // 10,
            "loss": loss + 1.0 / step,
            "tau": 0.99,
            "learning_rate": 0.1,
            "images_per_second": 640.0,
            "input_wait_share": 0.25,
            "monitor/rankme": 20.0 + step / 10,
        }
        for step in range(10, 50, 10)
    ]
    return [*steps, {"step": 40, "epoch": 4, "knn/top1_k20": 81.5}]


def pictures() -> dict:
    """What `report.Report` keeps of images, of three images and two classes."""

    def image(**more):
        return {
            "image": PIXEL,
            "label": "Bag",
            "same": None,
            "similarity": None,
            **more,
        }

    found = [
        image(same=True, similarity=0.91),
        image(label="Boot", same=False, similarity=0.42),
    ]
    groups = [
        {
            "title": "Worst queries",
            "words": "of all",
            "queries": [{"query": image(), "found": found}],
        }
    ]
    return {
        "step": 40,
        "augmentations": {"rows": [[PIXEL] * 3]},
        "spectrum": {
            "eigenvalues": [2.0, 1.0, 0.5],
            "rankme": 2.75,
            "slope": 0.97,
            "images": 3,
        },
        "activations": [[PIXEL, PIXEL]],
        "neighbours": {
            "k": 2,
            "images": 3,
            "groups": groups,
            "agreement": 0.625,
            "chance": 0.5,
        },
        "map": {
            "method": "t-SNE",
            "images": [[0, 15, PIXEL], [15, 0, PIXEL]],
            "cells": 16,
            "classes": ["Bag", "Boot"],
            "points": [[0.0, 0.5, 0], [1.0, 1.0, 1], [0.25, 0.0, 1]],
        },
    }


def write_run(folder, loss: float = 1.0, epochs: int = 4) -> pathlib.Path:
    """A run that has come to its end, with all parts."""
    from byol_keras.export.digest import note_digest

    folder = pathlib.Path(folder)
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "export").mkdir()
    (folder / "export/backbone.keras").write_bytes(b"")
    note_digest(folder / "export/backbone.keras", RECORD["identity"]["backbone"])
    (folder / "operative_config.gin").write_text(CONFIG.format(epochs=epochs))
    text = "".join(json.dumps(line) + "\n" for line in lines(loss))
    (folder / "metrics.jsonl").write_text(text)
    for name, content in (
        ("environment.json", [START]),
        ("health.json", HEALTH),
        ("benchmarks/knn.json", RECORD),
        ("report_pictures.json", pictures()),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


def run(model_dir, *bindings, gin_file=TINY, strategy="cpu", **arguments):
    """What the command line does, in this process."""
    from byol_keras import train
    from byol_keras.config import parse
    from byol_keras.runtime import cli, devices
    from byol_keras.training import rules

    gin.clear_config()
    with cli.user_errors():
        parse.parse_gin([str(gin_file)], list(bindings))
        is_early = strategy in devices.EARLY_STRATEGIES
        rules.check_configuration(trial=not is_early)
    train.train(model_dir, strategy=strategy, **arguments)


@gin.register(module="tests")
class StopAfter(keras.callbacks.Callback):
    """Sends a signal to this process after `steps` steps, `times` times."""

    stateless = True

    def __init__(self, steps, number=signal.SIGINT, times=1):
        super().__init__()
        self.steps, self.number, self.times = steps, number, times

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@gin.register(module="tests")
def mean_feature(backbone):
    features = backbone(np.ones((2, 28, 28, 1), np.float32), training=False)
    return {"mean_feature/value": float(np.mean(features["avgpool"]))}


def record_batches(folder, *, strategy):
    """Writes the part of the first batches that this worker gets."""
    from byol_keras.runtime import workers

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    source = make_arrays(num_examples=20)

    def make(data, batch_size):
        return small_views().dataset(data, batch_size, seed=0, start=BATCH)

    found = []
    batches = iter(workers.distribute(strategy, source, BATCH, make))
    for _ in range(3):
        view1, _ = next(batches)
        found += [x.numpy() for x in strategy.experimental_local_results(view1)]
    worker = strategy.cluster_resolver.task_id
    np.save(f"{folder}.{worker}.npy", np.stack(found))
    workers.require_same(strategy, folder=folder)
    try:
        workers.require_same(strategy, same=1, worker=worker)
    except ValueError as error:
        print(error)
