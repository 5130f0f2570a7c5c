"""Throughput of a run: images per second, input-wait share, FLOP/s."""

import contextlib
import logging
import time

import keras
import tensorflow as tf

from byol_keras.runtime.host_calls import host_function

# With a larger input-wait share, a faster input pipeline makes the run faster.
INPUT_BOUND_SHARE = 0.1
# Forward passes per image in a BYOL step. Both views go forward and backward through
# the online network, a backward pass counts as two forward passes, and both go forward
# through the target.
ONLINE_PASSES, TARGET_PASSES = 6, 2
# Dense peak FLOP/s in float32 (TF32 if supported) and in 16 bits.
# Source: data sheets of the manufacturer.
PEAKS = {
    "H100": (494e12, 989e12),
    "H200": (494e12, 989e12),
    "A100": (156e12, 312e12),
    "V100": (15.7e12, 125e12),
    "T4": (8.1e12, 65e12),
}


class Meter(keras.callbacks.Callback):
    """Logs throughput every `every_steps` steps: input-wait share, FLOP/s.

    `input_wait_share` is the share of the time, 0..1, that `fit` waited for input.
    `flops_per_second` counts the FLOPs that the method needs, which may differ from
    those that the device computes. `flops_utilization` is their share of the device's
    peak, if that is known.

    Args:
        position: `RunPosition`, earlier in the list of callbacks.
        batch_size: int. Images per step, over all devices.
        every_steps: int. Steps between two values, as in `MetricsLog`.
        flops_per_image: optional float. FLOPs of a step; see `flops_of_step`.
        peak: optional float. FLOP/s of all devices together; see `peak_flops`.
    """

    async_safe = False

    def __init__(
        self, position, batch_size, every_steps, flops_per_image=None, peak=None
    ):
        super().__init__()
        self.position = position
        self.batch_size = batch_size
        self.every_steps = every_steps
        self.flops_per_image = flops_per_image
        self.peak = peak
        with tf.device("CPU"):
            self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._totals = {"steps": 0, "seconds": 0.0, "waited": 0.0}

    def timed(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same dataset, with a clock for the time that its reader waits."""
        # `zip` requests its inputs one after another.
        clock = tf.data.Dataset.counter().map(_now)

        def count(asked, element, got):
            self._waited.assign_add(got - asked)
            return element

        options = tf.data.Options()
        # In front of another buffer, the clock would measure how it fills.
        options.experimental_optimization.inject_prefetch = False
        return (
            tf.data.Dataset.zip(clock, dataset, clock).map(count).with_options(options)
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._steps, self._begin = 0, None

    def on_train_batch_end(self, batch, logs=None):
        if self._begin is None:
            # The first step of an epoch may trace the graph and fills the pipeline.
            self._begin = self._now()
            return
        self._steps += 1
        if self.position.step % self.every_steps == 0:
            self._measure(logs)

    def _measure(self, logs):
        keras.ops.convert_to_numpy(logs["loss"])  # waits for the device
        now, begin = self._now(), self._begin
        seconds, waited = now[0] - begin[0], now[1] - begin[1]
        for name, value in zip(
            self._totals, (self._steps, seconds, waited), strict=True
        ):
            self._totals[name] += value
        logs |= self._rates(self._steps, seconds, waited)
        self._steps, self._begin = 0, now

    def _now(self):
        return time.perf_counter(), float(self._waited.numpy())

    def _rates(self, steps, seconds, waited):
        rates = {"input_wait_share": min(waited / seconds, 1.0)}
        if self.flops_per_image:
            flops = self.flops_per_image * self.batch_size * steps / seconds
            rates["flops_per_second"] = flops
            if self.peak:
                rates["flops_utilization"] = flops / self.peak
        return rates

    def verdict(self) -> str | None:
        """One line on the whole run: speed, bottleneck, advice. None without steps."""
        steps, seconds, waited = self._totals.values()
        if not steps:
            return None
        rates = self._rates(steps, seconds, waited)
        speed = self.batch_size * steps / seconds
        return sentence(speed, rates["input_wait_share"], rates.get("flops_per_second"))


def sentence(
    images_per_second: float,
    input_wait_share: float,
    flops_per_second: float | None = None,
) -> str:
    """Speed of a run, its bottleneck, and advice, in words.

    Args:
        images_per_second: float.
        input_wait_share: float in 0..1.
        flops_per_second: optional float.
    """
    bound, help_ = "compute-bound", "train.precision and train.jit_compile may help"
    if input_wait_share > INPUT_BOUND_SHARE:
        bound = "input-bound"
        help_ = "more CPU cores, or TwoViews.place = 'device' on an accelerator, help"
    speed = f"{images_per_second:.0f} images/s"
    if flops_per_second:
        speed += f", {flops_per_second / 1e9:.1f} GFLOP/s"
    waiting = f"{input_wait_share:.0%} of the time spent waiting for input"
    return f"{speed}; {bound}: {waiting}; {help_}"


def _now(_):
    """float64 scalar: seconds. TensorFlow's own clock fails in deterministic mode."""
    return tf.ensure_shape(host_function(time.perf_counter, [], tf.float64), [])


def flops_of_step(model, image_shape: tuple[int, int, int]) -> float | None:
    """FLOPs per image of a training step of `BYOL`; None if they are unknown.

    Counts matrix products and convolutions; one multiply-add is two FLOPs.

    Args:
        model: built `BYOL`.
        image_shape: height, width, channels of a view.
    """
    h = keras.KerasTensor((1, *image_shape))
    backbone = _forward_flops(model.online.represent, h)
    z = model.online.represent(h)
    projector = _forward_flops(model.online.projector, z)
    predictor = _forward_flops(model.predictor, model.online.projector(z))
    if None in (backbone, projector, predictor):
        return None
    passes = ONLINE_PASSES + TARGET_PASSES
    return passes * (backbone + projector) + ONLINE_PASSES * predictor


def _forward_flops(function, argument) -> float | None:
    spec = tf.TensorSpec(argument.shape, tf.float32)
    graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    with _without_warnings():
        found = tf.compat.v1.profiler.profile(graph, options=options)
    return found.total_float_ops if found else None


@contextlib.contextmanager
def _without_warnings():
    """Hides warnings: TensorFlow's profiler calls deprecated functions of its own."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def peak_flops(precision: str) -> float | None:
    """Peak FLOP/s of all accelerators of this machine together; None if unknown."""
    total = 0.0
    for device in tf.config.list_physical_devices("GPU"):
        name = tf.config.experimental.get_device_details(device).get("device_name", "")
        known = [peaks for part, peaks in PEAKS.items() if part in name]
        if not known:
            return None
        total += known[0][precision != "float32"]
    return total or None
