"""Trains the quickstart, whole or broken on purpose, with the collapse doctor on.

    python experiments/collapse/runs.py healthy --seed=0
    python experiments/collapse/runs.py no_predictor_tau_0 --steps=300

Writes the doctor's verdicts and readings to `results/<variant>_seed<seed>.json` beside
this file. The thresholds in `byol_keras/monitors.py` and `byol_keras/doctor.py` come
from these runs.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import argparse
import contextlib
import json
import pathlib
import tempfile
import time

import gin
import keras

from byol_keras import launch, provenance, train

HERE = pathlib.Path(__file__).parent
QUICKSTART = HERE.parents[1] / "gin/pretrain/quickstart.gin"
NO_PREDICTOR = "BYOL.predictor = @no_predictor()"
VARIANTS = {
    "healthy": (),
    "no_predictor_tau_0": (NO_PREDICTOR, "TargetEMA.base_tau = 0.0"),
    "no_predictor": (NO_PREDICTOR,),
    "tau_0": ("TargetEMA.base_tau = 0.0",),
    "target_init_random": ('BYOL.target_init = "random"',),
    "tau_1": ("TargetEMA.base_tau = 1.0",),
    "no_normalisation_in_heads": (
        "BYOL.projector = @plain_head()",
        "BYOL.predictor = @plain_head()",
    ),
    "learning_rate_x10": ("warmup_cosine.base_learning_rate = 4.0",),
    "learning_rate_x50": ("warmup_cosine.base_learning_rate = 20.0",),
    "weight_decay_x100": ("SGD.weight_decay = 0.05",),
}


@gin.register
def no_predictor():
    """An identity in the predictor's place."""
    return keras.Sequential([keras.layers.Activation("linear")])


@gin.register
def plain_head():
    """A head of the quickstart's size without BatchNormalization."""
    layers = [keras.layers.Dense(512), keras.layers.ReLU(), keras.layers.Dense(128)]
    return keras.Sequential(layers)


class EndAt(keras.callbacks.Callback):
    """Ends the run after so many steps, on the schedules of the whole run."""

    async_safe = False

    def __init__(self, steps):
        super().__init__()
        self.steps_left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps_left -= 1
        if not self.steps_left:
            self.model.stop_training = True


def main():
    """Runs one variant and writes its JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="end early; default: the whole run")
    parser.add_argument("--model_dir", help="run folder; default: a temporary one")
    arguments = parser.parse_args()
    bindings = [*VARIANTS[arguments.variant], f"train.seed = {arguments.seed}"]
    gin.external_configurable(lambda: EndAt(arguments.steps), "end_at")
    extra = ["train.callbacks = [@end_at]"] if arguments.steps else []
    start = time.perf_counter()
    launch.parse_gin([str(QUICKSTART)], bindings + extra)
    with contextlib.ExitStack() as stack:
        folder = arguments.model_dir
        folder = folder or stack.enter_context(tempfile.TemporaryDirectory())
        train.train(folder)
        health = json.loads(pathlib.Path(folder, "health.json").read_text())
        lines = pathlib.Path(folder, "metrics.jsonl").read_text().splitlines()
    readings = [line for line in map(json.loads, lines) if "monitor/rankme" in line]
    results = {
        "variant": arguments.variant,
        "seed": arguments.seed,
        "bindings": bindings,
        "config": gin.operative_config_str(),
        "seconds": round(time.perf_counter() - start, 1),
        "steps": arguments.steps or "all",
        **provenance.made_by(),
        "verdicts": health["changes"],
        "first": health["first"],
        "readings": readings,
    }
    path = HERE / "results" / f"{arguments.variant}_seed{arguments.seed}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{path.name}: {health['changes']}")


if __name__ == "__main__":
    main()
