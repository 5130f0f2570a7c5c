"""Times the training step against the framework's own floor; EMA, LARS, and memory.

    python experiments/speed/steps.py

The floor of a BYOL step is the cost of Keras and TensorFlow for the same backbone: two
supervised steps, for the forward and backward pass of both views, and two forward
passes, for the target. Each case runs in its own process. Writes `steps.json` next to
this file.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf
from measuring import interleaved, median_ratio, medians, peak_gigabytes, write

from byol_keras import BYOL, LARS, TargetEMA, resnet18, resnet50

REPEATS = 7
# Backbone, image size, batch size, projector width.
CASES = {
    "resnet18_32px": (resnet18, "small", 32, 64, 512),
    "resnet50_96px": (resnet50, "imagenet", 96, 16, 4096),
}
# Instructions of a CPU for 16-bit numbers, by their names in this file of Linux.
CPU_INFO, FLAGS = pathlib.Path("/proc/cpuinfo"), ("amx_bf16", "avx512_bf16")
# Of ResNet-50, for the share of EMA and LARS in a step and for its memory.
BATCH_SIZE, SIZE = 64, 96


def pictures(batch_size, size):
    """float32 `[B, S, S, 3]` of noise."""
    rng = np.random.default_rng(0)
    return tf.constant(rng.random((batch_size, size, size, 3), np.float32))


def byol_step(backbone, batch_size, size, hidden_units, optimizer):
    """A function that runs a BYOL step with EMA update; its model; its EMA."""
    model = BYOL(backbone, hidden_units)
    model.compile(optimizer, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    ema = TargetEMA(total_steps=1000)
    ema.set_model(model)
    ema.on_train_begin()
    batch = (pictures(batch_size, size), pictures(batch_size, size))
    step = tf.function(lambda: model.train_step(batch), autograph=False)

    def run():
        logs = step()
        ema.on_train_batch_end(0)
        return float(logs["loss"])

    return run, model, ema


def supervised_step(backbone, batch_size, size, optimizer):
    """Functions that run one supervised step and one forward pass of the backbone."""
    logits = keras.layers.Dense(1000)(backbone.output["avgpool"])
    model = keras.Model(backbone.input, logits)
    images = pictures(batch_size, size)
    labels = tf.zeros([batch_size], tf.int32)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = loss_fn(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function(autograph=False)
    def forward():
        return tf.reduce_sum(backbone(images, training=True)["avgpool"])

    return lambda: float(step()), lambda: float(forward())


def backbone_of(case):
    """A new backbone of a case."""
    make, stem, *_ = CASES[case]
    return make(stem=stem)


def measure_step(case) -> dict:
    """Times a BYOL step against the floor."""
    *_, size, batch_size, hidden_units = CASES[case]
    ours, _, _ = byol_step(
        backbone_of(case), batch_size, size, hidden_units, keras.optimizers.SGD(0.01)
    )
    supervised, forward = supervised_step(
        backbone_of(case), batch_size, size, keras.optimizers.SGD(0.01)
    )
    times = interleaved(
        {"byol": ours, "supervised": supervised, "forward": forward}, REPEATS
    )
    pairs = zip(times["supervised"], times["forward"], strict=True)
    floors = [2 * step + 2 * forward for step, forward in pairs]
    found = medians(times, 1e3)
    return {
        "batch_size": batch_size,
        **{f"{name}_milliseconds": value for name, value in found.items()},
        "ratio_to_floor": median_ratio(times["byol"], floors),
    }


def measure_share() -> dict:
    """Times EMA and LARS separately against a whole ResNet-50 step."""
    step, model, ema = byol_step(
        resnet50(), BATCH_SIZE, SIZE, 4096, LARS(0.1, weight_decay=1e-6)
    )
    gradients = [tf.ones_like(v) * 1e-3 for v in model.trainable_variables]

    @tf.function(autograph=False)
    def update():
        model.optimizer.apply(gradients, model.trainable_variables)
        return model.optimizer.iterations

    times = interleaved(
        {
            "step": step,
            "lars": lambda: int(update()),
            "ema": lambda: ema.on_train_batch_end(0),
        },
        REPEATS,
    )
    both = [a + b for a, b in zip(times["lars"], times["ema"], strict=True)]
    found = {f"{k}_milliseconds": v for k, v in medians(times, 1e3).items()}
    return {
        "batch_size": BATCH_SIZE,
        "image_size": SIZE,
        **found,
        "share": median_ratio(both, times["step"]),
    }


def measure_precision() -> dict:
    """Times a step in mixed_bfloat16 against one in float32, for each case."""
    ratios = {}
    for case, (*_, size, batch_size, hidden_units) in CASES.items():
        steps = {}
        for precision in ("float32", "mixed_bfloat16"):
            keras.config.set_dtype_policy(precision)
            optimizer = keras.optimizers.SGD(0.01)
            backbone = backbone_of(case)
            steps[precision], *_ = byol_step(
                backbone, batch_size, size, hidden_units, optimizer
            )
            steps[precision]()  # traced under its own policy
        times = interleaved(steps, REPEATS)
        ratios[case] = median_ratio(times["mixed_bfloat16"], times["float32"])
    has = CPU_INFO.read_text().split()
    return {"ratio": ratios, "cpu_flags": [x for x in FLAGS if x in has]}


class PerView(keras.layers.BatchNormalization):
    """Normalizes each half of the batch separately, as two passes do."""

    def call(self, inputs, training=None, mask=None):
        first, second = tf.split(inputs, 2)
        halves = super().call(first, training), super().call(second, training)
        return tf.concat(halves, axis=0)


def measure_views_together() -> dict:
    """Times a pass forward and back over both views at once against one per view."""
    _, _, size, batch_size, _ = CASES["resnet18_32px"]
    apart = backbone_of("resnet18_32px")

    def with_halves(layer):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer.__class__.from_config(layer.get_config())
        return PerView.from_config(layer.get_config())

    together = keras.models.clone_model(apart, clone_function=with_halves)
    together.set_weights(apart.get_weights())
    views = pictures(batch_size, size), pictures(batch_size, size) ** 2

    def norm(model, batches):
        with tf.GradientTape() as tape:
            h = [model(images, training=True)["avgpool"] for images in batches]
            loss = tf.reduce_sum(tf.concat(h, axis=0) ** 2)
        return tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))

    one = tf.function(lambda: norm(apart, views), autograph=False)
    both = tf.function(lambda: norm(together, [tf.concat(views, 0)]), autograph=False)
    norms = float(one()), float(both())
    times = interleaved(
        {"apart": lambda: float(one()), "together": lambda: float(both())}, REPEATS
    )
    return {
        "relative_difference_of_gradients": abs(norms[0] / norms[1] - 1.0),
        "ratio": median_ratio(times["together"], times["apart"]),
    }


def memory_of_byol() -> dict:
    """Peak memory of a process that runs BYOL steps."""
    step, _, _ = byol_step(
        resnet50(), BATCH_SIZE, SIZE, 4096, keras.optimizers.SGD(0.01)
    )
    [step() for _ in range(3)]
    return {"gigabytes": peak_gigabytes()}


def memory_of_supervised() -> dict:
    """Peak memory of a process that runs supervised steps at twice the batch size."""
    step, _ = supervised_step(
        resnet50(), 2 * BATCH_SIZE, SIZE, keras.optimizers.SGD(0.01)
    )
    [step() for _ in range(3)]
    return {"gigabytes": peak_gigabytes()}


PARTS = {
    "resnet18_32px": lambda: measure_step("resnet18_32px"),
    "resnet50_96px": lambda: measure_step("resnet50_96px"),
    "ema_and_lars": measure_share,
    "precision": measure_precision,
    "views_together": measure_views_together,
    "memory_byol": memory_of_byol,
    "memory_supervised": memory_of_supervised,
}


def main():
    """Runs every part in its own process, prints and writes."""
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]]()))
        return
    results = {"repeats": REPEATS}
    for part in PARTS:
        command = [sys.executable, __file__, part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[part] = json.loads(done.stdout.splitlines()[-1])
    memory = [results[f"memory_{x}"]["gigabytes"] for x in ("byol", "supervised")]
    results["memory_ratio"] = memory[0] / memory[1]
    write(results)


if __name__ == "__main__":
    main()
