"""Reads what runs leave in their folders."""

import json
import pathlib

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
