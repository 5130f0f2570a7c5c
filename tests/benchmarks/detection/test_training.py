"""Training of detectors: optimizer, replicas, resuming, statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.backbones import resnet18
from byol_keras.benchmarks.detection import training
from byol_keras.benchmarks.detection.batches import training_batches
from byol_keras.benchmarks.detection.dataset import coco_detection, voc_detection
from byol_keras.benchmarks.detection.recipe import DetectorTraining
from byol_keras.benchmarks.detection.training import (
    compile_detector,
    precise_batch_norm,
    train_detector,
)
from byol_keras.optimizers import MomentumSGD

from support.detectors import small_c4, small_fpn
from support.scenes import make_scenes, write_coco, write_vocdevkit

CANVAS = (64, 64)
# In narrower networks the shortcuts, 1x1 convolutions of stride 2, have fewer than 16
# channels, and oneDNN's gradient of these writes beyond its memory where the images of
# a replica cannot be dealt evenly to the threads.
WIDTH = 0.25


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    scenes = make_scenes(6, size=(48, 64))
    write_vocdevkit(folder, {"2007": {"trainval": scenes, "test": scenes[:2]}})
    return {
        split: voc_detection(folder, [("2007", split)])
        for split in ("trainval", "test")
    }


def recipe(**changes):
    settings = {"steps": 4, "batch_size": 2, "short_sides": (48,), "warmup_steps": 2}
    return DetectorTraining(**settings | changes)


def mirrored(replicas=2):
    # TensorFlow's default reduction on CPUs fails in a process that has used another
    # strategy before.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def c4(backbone=None):
    return small_c4(backbone or resnet18(width=WIDTH), 20, CANVAS, {4: (24,)})


def losses_of_steps(detector, batches, steps):
    return detector.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    ).history


@pytest.mark.parametrize("replicas", [1, 2])
def test_excluded_weights_do_not_decay_and_others_do(replicas):
    strategy = mirrored(replicas)
    with strategy.scope():
        decayed, excluded = keras.Variable([1.0]), keras.Variable([1.0])
        optimizer = MomentumSGD(0.5, momentum=0.9, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(var_list=[excluded])
        optimizer.build([decayed, excluded])

        def update():
            optimizer.apply([tf.zeros(1), tf.zeros(1)], [decayed, excluded])

        step = tf.function(lambda: strategy.run(update), autograph=False)
        step()
        step()
    # v = 0.1, w = 0.95; then v = 0.09 + 0.095, w = 0.95 - 0.5 * 0.185.
    assert float(keras.ops.convert_to_numpy(decayed)[0]) == pytest.approx(0.8575)
    assert float(keras.ops.convert_to_numpy(excluded)[0]) == 1.0


@pytest.mark.parametrize("decays", [True, False])
def test_norms_decay_only_where_the_protocol_says_so(decays):
    detector = c4()
    compile_detector(detector, recipe(decay_norms=decays), num_images=6)
    uses = detector.optimizer._use_weight_decay
    norm = detector.box_head.get_layer("box_head_bn")
    assert uses(norm.gamma) == uses(norm.beta) == decays
    assert uses(detector.rpn.get_layer("rpn_conv").bias)


def trained_weights(data, strategy, steps, state_path=None, **changes):
    """All weights after steps of a detector that starts with the same ones."""
    with strategy.scope():
        keras.utils.set_random_seed(1)
        detector = c4()
        train_detector(
            detector,
            data,
            recipe(steps=steps, **changes),
            CANVAS,
            state_path=state_path,
        )
    return detector.get_weights()


def test_two_replicas_train_like_one(voc):
    one = trained_weights(voc["trainval"], mirrored(1), steps=2)
    two = trained_weights(voc["trainval"], mirrored(2), steps=2)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first, second, atol=2e-5)


def test_batch_that_replicas_cannot_share_is_refused(voc):
    refused = pytest.raises(ValueError, match="divisible by the 2 replicas")
    with mirrored().scope(), refused:
        train_detector(c4(), voc["trainval"], recipe(batch_size=3), CANVAS)


def test_killed_run_resumes_with_the_steps_of_an_uninterrupted_one(
    voc, tmp_path, monkeypatch, capsys
):
    strategy, data = tf.distribute.get_strategy(), voc["trainval"]
    whole = trained_weights(data, strategy, steps=4)
    path, starts = tmp_path / "state.npz", []

    class Killed(training.RefuseNonfiniteLoss):
        def __init__(self, start, end):
            super().__init__(start, end)
            starts.append(start)

        def on_train_batch_end(self, batch, logs=None):
            if self.step == 3 and len(starts) == 1:
                raise KeyboardInterrupt
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(training, "RefuseNonfiniteLoss", Killed)
    train = lambda: trained_weights(  # noqa: E731
        data, strategy, 4, path, save_every_steps=2
    )
    with pytest.raises(KeyboardInterrupt):
        train()
    assert int(np.load(path)["step"]) == 2
    resumed = train()
    assert starts == [0, 2]
    assert "resuming at step 2 of 4" in capsys.readouterr().out
    assert int(np.load(path)["step"]) == 4
    for found, expected in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    train()  # is over
    assert starts == [0, 2]


def test_precise_statistics_are_the_mean_over_batches(voc):
    detector = c4()
    compile_detector(detector, recipe(), num_images=6)
    batches = training_batches(voc["trainval"], 2, CANVAS, (48,)).take(2)
    before = detector.get_weights()
    precise_batch_norm(detector, batches, 2)
    norm = detector.trunk.get_layer("stem_bn")
    part = detector.trunk.get_layer("stem_conv").output
    convolved = [
        keras.Model(detector.trunk.input, part)(batch["image"]) for batch in batches
    ]
    means = [np.mean(maps, axis=(0, 1, 2)) for maps in convolved]
    np.testing.assert_allclose(norm.moving_mean, np.mean(means, axis=0), atol=1e-5)
    for weight, old in zip(detector.weights, before, strict=True):
        if weight.trainable:
            np.testing.assert_array_equal(weight, old)
    assert norm.momentum == 0.9


def test_diverged_loss_ends_the_run_in_one_line():
    callback = training.RefuseNonfiniteLoss(start=0, end=1)
    with pytest.raises(ValueError, match=r"keep the loss finite\. .* at step 1$"):
        callback.on_train_batch_end(0, {"loss": float("nan")})


def with_masks(folder):
    """A detector of masks, and data for it."""
    write_coco(folder, {"train2017": make_scenes(4, size=(48, 64))})
    return small_fpn(resnet18(width=WIDTH), 3, CANVAS), coco_detection(folder)


def test_detector_of_masks_learns_masks_in_half_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    detector, data = with_masks(tmp_path)
    assert detector.backbone.get_layer("stem_conv").compute_dtype == "float16"
    compile_detector(detector, recipe(), num_images=4)
    batches = training_batches(data, 2, CANVAS, (48,), mask_size=28)
    losses = losses_of_steps(detector, batches, 1)
    assert set(losses) == {"loss", "rpn_score", "rpn_box", "box_class", "box", "mask"}
    assert np.isfinite([values[0] for values in losses.values()]).all()
    assert losses["mask"][0] == pytest.approx(np.log(2), abs=0.3)


@pytest.mark.slow
def test_detector_of_masks_keeps_two_replicas_equal(tmp_path):
    strategy = mirrored()
    with strategy.scope():
        detector, data = with_masks(tmp_path)
        before = detector.get_weights()
        train_detector(detector, data, recipe(steps=2), CANVAS, mask_size=28)
    after = detector.get_weights()
    changed = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert np.mean(changed) > 0.9
    assert all(np.isfinite(weights).all() for weights in after)
    for weight in detector.trainable_variables:
        copies = [copy.numpy() for copy in weight.value.values]
        np.testing.assert_array_equal(*copies)
