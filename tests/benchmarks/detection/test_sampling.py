"""Random choices of anchors and proposals: numbers, limits, keys."""

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks.detection.sampling import balanced_choice

POSITIVE = np.arange(100) < 30
NEGATIVE = np.arange(100) >= 40  # the ten between are neither


def choice(positive=POSITIVE, negative=NEGATIVE, count=40, most=10, key=(1, 2)):
    positive, negative = tf.constant(positive), tf.constant(negative)
    return balanced_choice(positive, negative, count, most, tf.constant(key)).numpy()


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (30, 60, (10, 30)),
        (4, 60, (4, 36)),  # negative ones take the place of missing positive ones
        (30, 20, (10, 20)),  # but not the other way round
        (0, 60, (0, 40)),
        (3, 0, (3, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_counts_are_those_of_the_published_samplers(positives, negatives, expected):
    places = np.arange(100)
    chosen = choice(places < positives, (places >= 40) & (places < 40 + negatives))
    assert (chosen[:30].sum(), chosen[40:].sum()) == expected
    assert not chosen[30:40].any()


def test_limits_can_exceed_the_number_of_candidates():
    few = np.ones(3, bool)
    assert choice(few, ~few, count=512, most=128).all()


def test_same_key_gives_the_same_choice_and_another_key_another():
    np.testing.assert_array_equal(choice(), choice())
    assert (choice() != choice(key=(1, 3))).any()


def test_every_candidate_is_chosen_equally_often():
    keys = tf.stack([tf.zeros(600, tf.int32), tf.range(600)], axis=1)
    chosen = tf.map_fn(
        lambda key: balanced_choice(
            tf.constant(POSITIVE), tf.constant(NEGATIVE), 40, 10, key
        ),
        keys,
        fn_output_signature=tf.bool,
    )
    share = np.mean(chosen.numpy(), axis=0)
    # Five standard deviations of a share of 600 draws.
    np.testing.assert_allclose(share[POSITIVE], 10 / 30, atol=5 * 0.0193)
    np.testing.assert_allclose(share[NEGATIVE], 30 / 60, atol=5 * 0.0205)
