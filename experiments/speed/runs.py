"""Times whole runs: `fit` with all callbacks against the bare step, and the start-up.

    python experiments/speed/runs.py

A ResNet-18 on photographs of 32 x 32, batch 64. Blocks of steps are measured
alternately: the bare step (`train_step` and EMA update), and `fit` with guard, doctor,
meter, logs and progress line, once on cached views and once on views that are computed
during training. The blocks contain no end of an epoch and thus no checkpoint, whose
cost is in `safety.json`. The script also times a run on Fashion-MNIST from the start of
the process to the end of its first step. Writes `runs.json` next to this file.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gin
import keras
import tensorflow as tf
from measuring import median_ratio, medians, ours, photographs, write

from byol_keras import BYOL, CollapseDoctor, NonfiniteGuard, TargetEMA, data, resnet18
from byol_keras import train
from byol_keras.callbacks import RunPosition
from byol_keras.config import parse
from byol_keras.monitoring.logs import MetricsLog, Progress, TensorLogs
from byol_keras.monitoring.throughput import Meter


BATCH_SIZE, IMAGE_SIZE = 64, 32
REPEATS, STEPS_OF_A_BLOCK, STARTS = 5, 20, 3
PRETRAIN = pathlib.Path(__file__).parents[2] / "gin/pretrain"
RECIPE = PRETRAIN / "fashion_mnist_small_resnet18.gin"


class Block(keras.callbacks.Callback):
    """Records begin and end of a block; its first step only starts the pipeline."""

    async_safe = False

    def on_train_batch_end(self, batch, logs=None):
        if batch in (0, STEPS_OF_A_BLOCK):
            float(logs["loss"])  # waits for the device
            self.end = time.perf_counter()
        if batch == 0:
            self.begin = self.end


def new_model() -> BYOL:
    """A compiled ResNet-18 with small heads."""
    model = BYOL(resnet18(stem="small"), hidden_units=512)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    return model


def bare_block():
    """Returns a function that times `train_step` and EMA update without `fit`."""
    model, ema = new_model(), TargetEMA(total_steps=10**6)
    model.optimizer.build(model.trainable_variables)
    ema.set_model(model)
    ema.on_train_begin()
    source = data.arrays(photographs(BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE))
    batch = next(iter(ours(IMAGE_SIZE).dataset(source, BATCH_SIZE, seed=0)))
    step = tf.function(lambda: model.train_step(batch), autograph=False)

    def run():
        start = time.perf_counter()
        for _ in range(STEPS_OF_A_BLOCK):
            logs = step()
            ema.on_train_batch_end(0)
        float(logs["loss"])  # waits for the device
        return (time.perf_counter() - start) / STEPS_OF_A_BLOCK

    return run


def fit_block(folder, cached: bool):
    """Returns a function that times a step of `fit` with the callbacks of a run."""
    model = new_model()
    source = data.arrays(photographs(256, IMAGE_SIZE, IMAGE_SIZE))
    dataset = ours(IMAGE_SIZE).dataset(source, BATCH_SIZE, seed=0)
    probe = next(iter(dataset))
    if cached:
        dataset = dataset.take(4).cache().repeat()
    position = RunPosition([10**6])
    log = {"batch_size": BATCH_SIZE, "every_steps": 20}
    meter, block = Meter(position, **log), Block()
    dataset = meter.timed(dataset)
    callbacks = [
        position,
        TargetEMA(total_steps=10**6),
        NonfiniteGuard(every_steps=20, model_dir=folder),
        CollapseDoctor(probe, BATCH_SIZE, log_every_steps=20, model_dir=folder),
        meter,
        MetricsLog(folder, position, **log),
    ]

    def run():
        with contextlib.redirect_stdout(None), Progress(position, **log) as progress:
            steps = STEPS_OF_A_BLOCK + 1
            together = [*callbacks, progress, block]
            model.fit(
                dataset,
                steps_per_epoch=steps,
                shuffle=False,
                verbose=0,
                callbacks=TensorLogs(together, model, epochs=1, steps=steps),
            )
        return (block.end - block.begin) / STEPS_OF_A_BLOCK

    return run


def measure_fit() -> dict:
    """Times `fit` on cached and on fresh views against the bare step."""
    with tempfile.TemporaryDirectory() as folder:
        blocks = {
            "bare": bare_block(),
            "cached_views": fit_block(f"{folder}/cached", cached=True),
            "fresh_views": fit_block(f"{folder}/fresh", cached=False),
        }
        times = {name: [] for name in blocks}
        for repeat in range(REPEATS + 1):
            for name, block in blocks.items():
                seconds = block()
                if repeat:  # the first one traces and warms up
                    times[name].append(seconds)
    found = {f"{k}_milliseconds": v for k, v in medians(times, 1e3).items()}
    for name in ("cached_views", "fresh_views"):
        found[f"{name}_ratio"] = median_ratio(times[name], times["bare"])
    return {"batch_size": BATCH_SIZE, "steps_of_a_block": STEPS_OF_A_BLOCK, **found}


@gin.register
class EndAtFirstStep(keras.callbacks.Callback):
    """Prints the time at the end of the first step and ends the process."""

    async_safe = False
    stateless = True

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])
        os.write(2, f"\n{time.time()}\n".encode())
        os._exit(0)


def start(folder: str) -> None:
    """Starts the run."""
    parse.parse_gin([str(RECIPE)], ["train.callbacks = [@EndAtFirstStep]"])
    train.train(folder)


def measure_start() -> dict:
    """Seconds from the start of a process to its first step, and of its imports."""
    whole, imports = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.time()
            done = subprocess.run(
                [sys.executable, __file__, folder], capture_output=True, text=True
            )
        whole.append(float(done.stderr.split()[-1]) - begin)
        begin = time.time()
        subprocess.run([sys.executable, "-c", "import byol_keras.train"], check=True)
        imports.append(time.time() - begin)
    return {
        "repeats": STARTS,
        "first_step_seconds": statistics.median(whole),
        "of_these_imports": statistics.median(imports),
    }


def main():
    """Measures, prints and writes."""
    if len(sys.argv) > 1:
        start(sys.argv[1])
        return
    results = {"repeats": REPEATS, "fit": measure_fit(), "start": measure_start()}
    write(results)


if __name__ == "__main__":
    main()
