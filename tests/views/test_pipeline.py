"""Random draws depend on seed, pass and index only; batches keep the order."""

import os

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.views import pipeline


def draws(seed=0, number=0, index=0, count=5):
    element = {
        "pass": tf.constant(number, tf.int64),
        "index": tf.constant(index, tf.int64),
    }
    return pipeline.uniforms_of(element, seed, count).numpy()


def test_draws_are_a_pure_function_of_seed_pass_and_index():
    np.testing.assert_array_equal(draws(3, 2, 1), draws(3, 2, 1))
    found = [draws(), draws(seed=1), draws(number=1), draws(index=1)]
    assert len(np.unique(np.stack(found), axis=0)) == 4


def test_draws_of_an_earlier_version_are_the_same():
    expected = [0.63358057, 0.6142329, 0.82540298]
    np.testing.assert_allclose(draws(7, 3, 11, count=3), expected, atol=1e-7)


def test_draws_are_uniform():
    values = draws(count=20_000)
    assert 0.0 <= values.min() < 1e-3
    assert 1.0 - 1e-3 < values.max() < 1.0
    np.testing.assert_allclose(np.histogram(values, 4, (0, 1))[0] / 5000, 1, atol=0.05)


@pytest.mark.parametrize("part", [1, 2, 6])
def test_batches_keep_the_order_whatever_the_part(part):
    seen = []

    def augment(number, image):
        seen.append(number.shape[0])
        return number * 10, image + 1.0

    examples = tf.data.Dataset.range(20).map(lambda n: (n, tf.zeros([2, 3])))
    batches = list(pipeline.batches(examples, augment, batch_size=6, part=part))
    assert len(batches) == 3  # the rest is dropped
    numbers = np.concatenate([number for number, _ in batches])
    assert numbers.tolist() == list(range(0, 180, 10))
    assert all(image.shape == (6, 2, 3) for _, image in batches)
    assert set(seen) == {part}


def test_pipelines_are_deterministic_and_not_autotuned():
    options = pipeline.reproducible()
    assert options.deterministic is True
    assert options.autotune.enabled is False


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert pipeline.cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert pipeline.cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert pipeline.cores() == 1
