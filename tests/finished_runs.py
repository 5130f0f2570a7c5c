"""Run folders as runs leave them, written by hand: every number is known."""

import json
import pathlib

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
    folder = pathlib.Path(folder)
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "export").mkdir()
    (folder / "export/backbone.keras").write_bytes(b"")
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
