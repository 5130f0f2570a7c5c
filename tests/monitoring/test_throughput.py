"""Throughput: input-wait share, FLOPs of a step, verdict."""

import time

import pytest
import tensorflow as tf

from byol_keras.backbones import resnet18
from byol_keras.byol import BYOL
from byol_keras.callbacks import RunPosition
from byol_keras.monitoring import throughput
from byol_keras.monitoring.throughput import Meter, flops_of_step


def measured(dataset_seconds, step_seconds, steps=7, **options):
    """A meter after some steps on a dataset that takes its time, and its last logs."""
    position = RunPosition([steps + 1])
    found = Meter(position, batch_size=10, every_steps=4, **options)

    def slowly(number):
        time.sleep(dataset_seconds)
        return number

    dataset = tf.data.Dataset.range(steps + 1).map(
        lambda x: tf.numpy_function(slowly, [x], tf.int64)
    )
    found.on_epoch_begin(0)
    for step, _ in enumerate(found.timed(dataset)):
        time.sleep(step_seconds)
        logs = {"loss": tf.constant(1.0)}
        position.step += 1
        found.on_train_batch_end(step, logs)
    return found, logs


def test_wait_for_slow_input_is_measured():
    found, logs = measured(dataset_seconds=0.05, step_seconds=0.01)
    assert 0.4 < logs["input_wait_share"] < 0.99
    assert "input-bound" in found.verdict()
    assert "TwoViews.place" in found.verdict()


def test_fast_input_causes_no_wait():
    found, logs = measured(dataset_seconds=0.0, step_seconds=0.05)
    assert logs["input_wait_share"] < 0.4
    rate = float(found.verdict().split()[0])
    assert 10 < rate < 200  # 10 images in over 0.05 seconds


@pytest.mark.parametrize(("share", "bound"), [(0.05, "compute"), (0.2, "input")])
def test_verdict_names_the_bound(share, bound):
    found = Meter(RunPosition([1]), batch_size=10, every_steps=1)
    found._totals = {"steps": 20, "seconds": 2.0, "waited": 2.0 * share}
    expected = f"100 images/s; {bound}-bound: {share:.0%} of the time"
    assert found.verdict().startswith(expected)


def test_flops_are_those_of_the_images_and_their_share_of_the_peak():
    _, logs = measured(0.0, 0.02, flops_per_image=1e6, peak=1e9)
    assert 0.01e9 < logs["flops_per_second"] < 0.5e9
    assert logs["flops_utilization"] == pytest.approx(logs["flops_per_second"] / 1e9)


def test_logs_are_left_alone_between_two_measurements():
    position = RunPosition([9])
    found = Meter(position, batch_size=1, every_steps=3)
    found.on_epoch_begin(0)
    for step in range(2):
        position.step += 1
        logs = {"loss": tf.constant(1.0)}
        found.on_train_batch_end(step, logs)
        assert set(logs) == {"loss"}
    assert found.verdict() is None


def test_flops_of_a_step_are_eight_passes_and_six_of_the_predictor():
    model = BYOL(resnet18(width=0.0625, stem="small"), 16, 8)
    maps = {4: 16, 8: 8, 16: 4, 32: 2}  # channels -> side, of the four stages
    forward = 2 * 16 * 16 * 9 * 3 * 4
    before = 4
    for channels, side in maps.items():
        first = 9 * before * channels + 3 * 9 * channels * channels
        shortcut = before * channels if before != channels or channels == 4 else 0
        forward += 2 * side * side * (first + shortcut)
        before = channels
    projector, predictor = 2 * (32 * 16 + 16 * 8), 2 * (8 * 16 + 16 * 8)
    expected = 8 * (forward + projector) + 6 * predictor
    # Additions of biases and in averages count too, a few per mille.
    assert flops_of_step(model, (32, 32, 3)) == pytest.approx(expected, rel=0.05)


def test_the_peak_of_a_known_accelerator_depends_on_precision(monkeypatch):
    def pretend(names):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: names)
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda name: {"device_name": name},
        )

    pretend(["NVIDIA A100-SXM4-80GB"] * 2)
    assert throughput.peak_flops("float32") == 2 * 156e12
    assert throughput.peak_flops("mixed_bfloat16") == 2 * 312e12
    pretend(["something new"])
    assert throughput.peak_flops("float32") is None
    pretend([])
    assert throughput.peak_flops("float32") is None
