"""Training of detectors: schedule, optimizer, replicas, resuming, statistics."""

import importlib
import inspect
import resource

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.backbones import resnet18, resnet50
from byol_keras.benchmarks import detection
from byol_keras.benchmarks.detection import detection_coco, detection_voc, training
from byol_keras.benchmarks.detection.batches import training_batches
from byol_keras.benchmarks.detection.dataset import coco_detection, voc_detection
from byol_keras.benchmarks.detection.faster_rcnn_c4 import FasterRCNNC4
from byol_keras.benchmarks.detection.mask_rcnn_fpn import MaskRCNNFPN
from byol_keras.benchmarks.detection.region_ops import Regions, model_garden
from byol_keras.benchmarks.detection.training import (
    DetectorTraining,
    compile_detector,
    precise_batch_norm,
    train_detector,
)
from byol_keras.config import operative, parse
from byol_keras.optimizers import MomentumSGD

from support import ROOT
from support.scenes import make_scenes, write_coco, write_vocdevkit

CANVAS = (64, 64)
# In narrower networks the shortcuts, 1x1 convolutions of stride 2, have fewer than 16
# channels, and oneDNN's gradient of these writes beyond its memory where the images of
# a replica cannot be dealt evenly to the threads.
WIDTH = 0.25


@pytest.fixture(autouse=True)
def _needs_the_model_garden(request):
    if "regions" in request.fixturenames:
        try:
            model_garden()
        except ValueError as error:
            pytest.skip(str(error))


@pytest.fixture
def regions():
    def make(anchor_sizes):
        return Regions(
            anchor_sizes,
            rpn_samples=16,
            pre_nms=30,
            proposals=20,
            test_pre_nms=30,
            test_proposals=20,
            roi_samples=8,
            max_detections=5,
        )

    return make


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


def c4(regions, backbone=None):
    return FasterRCNNC4(
        backbone or resnet18(width=WIDTH), 20, CANVAS, regions({4: (24,)}), 8
    )


def losses_of_steps(detector, batches, steps):
    return detector.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    ).history


def test_learning_rate_of_voc_is_the_published_one():
    schedule = DetectorTraining(steps=24000, milestones=(18000, 22000)).schedule(9999)
    golden = {0: 2e-5, 1: 0.0002198, 50: 0.01001, 99: 0.0198002, 100: 0.02}
    golden |= {17999: 0.02, 18000: 0.002, 21999: 0.002, 22000: 0.0002, 23999: 0.0002}
    for step, rate in golden.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), step
    assert schedule.total_steps == 24000


def test_learning_rate_of_coco_moves_after_whole_epochs():
    recipe = DetectorTraining(epochs=12, milestones=(8, 11), warmup_steps=1000)
    schedule = recipe.schedule(117_266)
    assert schedule.total_steps == 12 * 7330
    golden = {0: 2e-5, 500: 0.01001, 999: 0.01998002, 8 * 7330 - 1: 0.02}
    golden |= {8 * 7330: 0.002, 11 * 7330: 0.0002}
    for step, rate in golden.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), step


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"epochs": 1}, "either steps or epochs"),
        ({"steps": None}, "either steps or epochs"),
        ({"steps": 0}, "steps must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"milestones": (3, 2)}, "milestones must be positive and ascend"),
    ],
)
def test_impossible_recipe_is_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        recipe(**changes)


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
def test_norms_decay_only_where_the_protocol_says_so(regions, decays):
    detector = c4(regions)
    compile_detector(detector, recipe(decay_norms=decays), num_images=6)
    uses = detector.optimizer._use_weight_decay
    norm = detector.box_head.get_layer("box_head_bn")
    assert uses(norm.gamma) == uses(norm.beta) == decays
    assert uses(detector.rpn.get_layer("rpn_conv").bias)


def trained_weights(regions, data, strategy, steps, state_path=None, **changes):
    """All weights after steps of a detector that starts with the same ones."""
    with strategy.scope():
        keras.utils.set_random_seed(1)
        detector = c4(regions)
        train_detector(
            detector,
            data,
            recipe(steps=steps, **changes),
            CANVAS,
            state_path=state_path,
        )
    return detector.get_weights()


def test_two_replicas_are_one(regions, voc):
    one = trained_weights(regions, voc["trainval"], mirrored(1), steps=2)
    two = trained_weights(regions, voc["trainval"], mirrored(2), steps=2)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first, second, atol=2e-5)


def test_batch_that_replicas_cannot_share_is_refused(regions, voc):
    refused = pytest.raises(ValueError, match="divisible by the 2 replicas")
    with mirrored().scope(), refused:
        train_detector(c4(regions), voc["trainval"], recipe(batch_size=3), CANVAS)


def test_killed_run_takes_the_steps_that_it_would_have_taken(
    regions, voc, tmp_path, monkeypatch, capsys
):
    strategy, data = tf.distribute.get_strategy(), voc["trainval"]
    whole = trained_weights(regions, data, strategy, steps=4)
    path, starts = tmp_path / "state.npz", []

    class Killed(training.FollowTraining):
        def __init__(self, start, end):
            super().__init__(start, end)
            starts.append(start)

        def on_train_batch_end(self, batch, logs=None):
            if self.step == 3 and len(starts) == 1:
                self.bar.stop()
                raise KeyboardInterrupt
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(training, "FollowTraining", Killed)
    train = lambda: trained_weights(  # noqa: E731
        regions, data, strategy, 4, path, save_every_steps=2
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


def test_precise_statistics_are_the_mean_of_those_of_batches(regions, voc):
    detector = c4(regions)
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
    follower = training.FollowTraining(start=0, end=1)
    with pytest.raises(ValueError, match="stay finite"):
        follower.on_train_batch_end(0, {"loss": float("nan")})


def test_benchmark_gives_percent_and_pictures_and_leaves_the_backbone(
    regions, voc, tmp_path
):
    backbone = resnet18(width=WIDTH)
    before = backbone.get_weights()

    def detector_fn(backbone, num_classes, image_size):
        return c4(regions, backbone)

    scores = detection_voc(
        backbone,
        voc["trainval"],
        voc["test"],
        detector_fn,
        recipe(steps=1, precise_bn_steps=1),
        CANVAS,
        test_short_side=48,
        convention="detectron2",
        output_dir=tmp_path,
    )
    assert set(scores) == {f"detection_voc/{name}" for name in ("AP", "AP50", "AP75")}
    assert all(0.0 <= score <= 100.0 for score in scores.values())
    assert len(list(tmp_path.glob("run-*/pictures/*.png"))) == 2
    for now, then in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def with_masks(regions, folder):
    """A detector of masks, and data for it."""
    write_coco(folder, {"train2017": make_scenes(4, size=(48, 64))})
    anchors = {level: (2 ** (level + 2),) for level in range(2, 7)}
    detector = MaskRCNNFPN(
        resnet18(width=WIDTH), 3, CANVAS, regions(anchors), channels=8, convs=1, units=8
    )
    return detector, coco_detection(folder)


def test_detector_of_masks_learns_masks_in_half_precision(regions, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    detector, data = with_masks(regions, tmp_path)
    assert detector.backbone.get_layer("stem_conv").compute_dtype == "float16"
    compile_detector(detector, recipe(), num_images=4)
    batches = training_batches(data, 2, CANVAS, (48,), mask_size=28)
    losses = losses_of_steps(detector, batches, 1)
    assert set(losses) == {"loss", "rpn_score", "rpn_box", "box_class", "box", "mask"}
    assert np.isfinite([values[0] for values in losses.values()]).all()
    assert losses["mask"][0] == pytest.approx(np.log(2), abs=0.3)


@pytest.mark.slow
def test_detector_of_masks_trains_alike_on_two_replicas(regions, tmp_path):
    strategy = mirrored()
    with strategy.scope():
        detector, data = with_masks(regions, tmp_path)
        before = detector.get_weights()
        train_detector(detector, data, recipe(steps=2), CANVAS, mask_size=28)
    after = detector.get_weights()
    changed = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert np.mean(changed) > 0.9
    assert all(np.isfinite(weights).all() for weights in after)
    for weight in detector.trainable_variables:
        copies = [copy.numpy() for copy in weight.value.values]
        np.testing.assert_array_equal(*copies)


# The files in gin/.


def parsed(name, *bindings):
    """Parses a file of gin/benchmarks/ as the command line does."""
    importlib.import_module("byol_keras.benchmarks.__main__")
    parse.parse_gin([str(ROOT / f"gin/benchmarks/{name}.gin")], list(bindings))


def written(folder, kind, scenes, held_out):
    """A folder of scenes, and the binding that names it."""
    if kind == "voc":
        halves = {"2012": {"trainval": scenes[1::2]}}
        halves["2007"] = {"trainval": scenes[::2], "test": held_out}
        write_vocdevkit(folder, halves)
        return f'VOC_PATH = "{folder}"'
    write_coco(folder, {"train2017": scenes, "val2017": held_out})
    return f'COCO_PATH = "{folder}"'


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("detection_voc0712", ("mmdetection", False, True, 0)),
        ("detection_voc0712_detectron2", ("detectron2", True, False, 200)),
    ],
)
def test_variants_of_voc_differ_as_published(regions, name, differs, tmp_path):
    scenes = make_scenes(3)
    parsed(name, written(tmp_path, "voc", scenes[:2], scenes[2:]))
    bound = gin.get_bindings("detection_voc")
    recipe, data = bound["training"], bound["train_data"]
    found = (bound["convention"], data.trains_difficult)
    assert (*found, recipe.decay_norms, recipe.precise_bn_steps) == differs
    assert (recipe.steps, recipe.milestones) == (24000, (18000, 22000))
    assert recipe.batch_size * recipe.learning_rate == pytest.approx(16 * 0.02)
    assert len(data.examples) == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("voc", "detection_voc0712"),
        ("voc", "detection_voc0712_detectron2"),
        ("voc", "detection_voc0712_tiny"),
        ("coco", "detection_coco"),
        ("coco", "detection_coco_tiny"),
    ],
)
def test_every_binding_of_a_file_is_used(regions, kind, name, tmp_path):
    scenes = make_scenes(3)
    parsed(name, written(tmp_path, kind, scenes[:2], scenes[2:]))
    bound = gin.get_bindings(f"detection_{kind}")
    bound["detector_fn"](resnet18(width=WIDTH), 3, bound["image_size"])
    arguments = inspect.signature(getattr(detection, f"detection_{kind}")).parameters
    assert set(bound) <= set(arguments)
    called_here = ("benchmark.", f"detection_{kind}.")
    assert [
        x for x in operative.unused_bindings() if not x.startswith(called_here)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        ("voc", "voc0712_tiny", {"AP50": 40.0}),
        ("coco", "coco_tiny", {"box_AP50": 60.0, "mask_AP50": 50.0}),
    ],
)
def test_tiny_recipe_learns_generated_scenes(regions, kind, name, least, tmp_path):
    path = written(tmp_path, kind, make_scenes(100), make_scenes(40, seed=1))
    parsed(f"detection_{name}", path)
    function = {"voc": detection_voc, "coco": detection_coco}[kind]
    keras.utils.set_random_seed(1)
    scores = function(resnet18(width=0.25), **gin.get_bindings(function.__name__))
    for metric, score in least.items():
        assert scores[f"{function.__name__}/{metric}"] >= score


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_full_size_trains_a_step_and_predicts(regions, kind, tmp_path, capsys):
    height, width = canvas = (832, 1344)
    scenes = make_scenes(2, size=(96, 160))
    path = written(tmp_path, kind, scenes[:1], scenes[1:])
    parsed({"voc": "detection_voc0712", "coco": "detection_coco"}[kind], path)
    bound = gin.get_bindings(f"detection_{kind}")
    data = bound["train_data"]
    detector = bound["detector_fn"](resnet50(), len(data.class_names), canvas)
    compile_detector(detector, bound["training"], num_images=1)
    masks = 112 if kind == "coco" else None
    batches = training_batches(data, 1, canvas, (800,), mask_size=masks)
    losses = losses_of_steps(detector, batches, 1)
    assert np.isfinite([values[0] for values in losses.values()]).all()
    image = tf.zeros([1, height, width, 3])
    found = detector.detect(image, tf.constant([[800.0, 1333.0]]))
    assert found["boxes"].shape == (1, 100, 4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"{type(detector).__name__}, 800 x 1333: peak memory {peak:.1f} GiB")
