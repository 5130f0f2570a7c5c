"""Measures the cost of guard, collapse doctor and checkpoints in training.

    python experiments/speed/safety.py

BYOL with the heads of the paper on images of 32 x 32, batch 64. Steps with and without
`NonfiniteGuard` are measured alternately, and so are blocks of steps during which a
checkpoint is or is not written. The cost of a reading of `CollapseDoctor` and of a
checkpoint is divided by the default number of steps between two of them. Writes
`safety.json` next to this file.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import inspect
import pathlib
import statistics
import tempfile

import numpy as np
import tensorflow as tf
from measuring import interleaved, median_ratio, medians, seconds, write

from byol_keras import BYOL, LARS, resnet18
from byol_keras.callbacks import RunPosition
from byol_keras.checkpoints.callback import Checkpoints
from byol_keras.monitoring.collapse import CollapseDoctor
from byol_keras.monitoring.nonfinite import NonfiniteGuard

BATCH_SIZE, IMAGE_SIZE = 64, 32
REPEATS, STEPS_OF_A_BLOCK = 9, 6


def default(function, parameter: str):
    """Default of a parameter, used to compute shares."""
    return inspect.signature(function).parameters[parameter].default


def new_model(views) -> BYOL:
    """A compiled ResNet-18 with the paper's heads."""
    model = BYOL(resnet18(stem="small"))
    model.compile(LARS(0.1))
    model.build((None, *views[0].shape[1:]))
    model.optimizer.build(model.trainable_variables)
    return model


def traced_step(model, views):
    """A training step on fixed views, with the current guard of the model."""
    step = tf.function(lambda: model.train_step(views), autograph=False)

    def run():
        return float(step()["loss"])

    run()
    return run


def measure_guard(views) -> dict:
    """Times steps with a guard against steps without."""
    bare = traced_step(new_model(views), views)
    guarded_model = new_model(views)
    NonfiniteGuard().set_model(guarded_model)
    guarded = traced_step(guarded_model, views)
    times = interleaved({"bare": bare, "guarded": guarded}, 3 * REPEATS)
    found = medians(times)
    share = median_ratio(times["guarded"], times["bare"]) - 1.0
    return {"step_seconds": found["bare"], "percent": 100.0 * share}


def measure_doctor(views, step_seconds: float) -> dict:
    """Times a reading on as many images as a step has."""
    doctor = CollapseDoctor(views)
    doctor.set_model(new_model(views))
    doctor.on_train_begin()
    reading = statistics.median(
        seconds(lambda: doctor.read({})) for _ in range(REPEATS)
    )
    steps = default(CollapseDoctor.__init__, "every_steps")
    return {
        "reading_seconds": reading,
        "every_steps": steps,
        "percent": 100.0 * reading / (steps * step_seconds),
    }


def measure_checkpoints(views) -> dict:
    """Times blocks of steps while a checkpoint is written, against blocks without."""
    model = new_model(views)
    step = traced_step(model, views)
    with tempfile.TemporaryDirectory() as folder:
        position = RunPosition([10**9])
        checkpoints = Checkpoints(folder, model, position, every_minutes=None)
        checkpoints.on_train_begin()

        def block(every_steps):
            checkpoints.every_steps = every_steps
            position.step += 1
            checkpoints.on_train_batch_end(0)
            checkpoints.every_steps = None
            for _ in range(STEPS_OF_A_BLOCK):
                step()

        times = interleaved(
            {"without": lambda: block(None), "with": lambda: block(1)}, REPEATS
        )
        checkpoints.on_train_end()
        checkpoints.folder.close()
        newest = max(pathlib.Path(folder, "checkpoints").glob("*.npz"))
        megabytes = newest.stat().st_size / 1e6
    added = statistics.median(
        a - b for a, b in zip(times["with"], times["without"], strict=True)
    )
    minutes = default(Checkpoints.__init__, "every_minutes")
    return {
        "megabytes": megabytes,
        "seconds_added": added,
        "every_minutes": minutes,
        "percent": 100.0 * added / (60.0 * minutes),
    }


def main():
    """Measures, prints and writes."""
    shape = (2, BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
    views = tuple(tf.constant(np.random.default_rng(0).random(shape, np.float32)))
    results = {"batch_size": BATCH_SIZE, "image_size": IMAGE_SIZE, "repeats": REPEATS}
    results["guard"] = measure_guard(views)
    results["doctor"] = measure_doctor(views, results["guard"]["step_seconds"])
    results["checkpoints"] = measure_checkpoints(views)
    parts = ("guard", "doctor", "checkpoints")
    results["total_percent"] = sum(results[part]["percent"] for part in parts)
    write(results)


if __name__ == "__main__":
    main()
