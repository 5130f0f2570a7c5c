import functools
import os
import resource
import shutil
import signal

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import train
from byol_keras.checkpoints.run_lock import RunLock
from byol_keras.config import parse
from byol_keras.data import tfds_builders
from byol_keras.export import load_backbone
from byol_keras.runtime import cli
from byol_keras.training import rules

from support import ROOT
from support.processes import command_line
from support.runs import FASHION_MNIST, TINY, metrics, run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder)
    return folder


def test_run_folder_holds_what_the_design_promises(unbroken):
    for name in (
        "config.gin",
        "operative_config.gin",
        "checkpoints",
        "logs",
        "metrics.jsonl",
        "export/backbone.keras",
        "export/saved_model",
        "export/MODEL_CARD.md",
    ):
        assert (unbroken / name).exists(), name


def test_metrics_have_one_line_per_step_with_all_quantities(unbroken):
    lines = metrics(unbroken)
    assert [line["step"] for line in lines] == list(range(1, 80 * 3 // 32 + 1))
    for line in lines:
        assert 0.0 < line["loss"] < 8.0
        assert 0.0 < line["projection_std"] < 2.0
        assert line["images_per_second"] > 0.0
        assert {"tau", "learning_rate", "epoch"} <= set(line)
    assert [line["epoch"] for line in lines] == [1, 1, 2, 2, 2, 3, 3]


def test_logged_tau_and_learning_rate_are_those_of_the_schedules(unbroken):
    first, *_, last = metrics(unbroken)
    assert first["learning_rate"] == 0.0  # DeepMind's warm-up starts at exactly 0
    assert first["tau"] == pytest.approx(0.97, abs=1e-6)
    expected = 1.0 - 0.03 * (np.cos(np.pi * 6 / 7) + 1.0) / 2.0
    assert last["tau"] == pytest.approx(expected, abs=1e-6)


def assert_same_run(folder, expected):
    """Asserts that two runs have the same logs and the same exported weights."""
    for line1, line2 in zip(metrics(folder), metrics(expected), strict=True):
        for name in ("step", "epoch", "loss", "tau", "learning_rate"):
            assert line1[name] == line2[name], name
    weights = [load_backbone(path).get_weights() for path in (folder, expected)]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


# Epochs end at steps 2, 5 and 7.
@pytest.mark.parametrize(
    ("number", "steps"),
    [
        (signal.SIGTERM, 1),
        *(
            pytest.param(number, steps, marks=pytest.mark.slow)
            for number in (signal.SIGINT, signal.SIGTERM)
            for steps in (1, 2, 4)
            if (number, steps) != (signal.SIGTERM, 1)
        ),
    ],
)
def test_interrupted_run_resumes_at_the_same_step_and_ends_the_same(
    unbroken, tmp_path, capfd, steps, number
):
    stop = (f"StopAfter.steps = {steps}", f"StopAfter.number = {int(number)}")
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "train.callbacks = [@StopAfter]", *stop)
    assert stopped.value.code == 128 + number
    shown = capfd.readouterr().err
    assert f"step {steps} is saved; the same command with model_dir=" in shown
    run(tmp_path)
    assert f"resuming at step {steps} of 7" in capfd.readouterr().out
    assert_same_run(tmp_path, unbroken)


def test_run_interrupted_at_once_resumes_at_the_last_checkpoint(
    unbroken, tmp_path, capfd
):
    stop = ("StopAfter.steps = 4", "StopAfter.times = 2")
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "train.callbacks = [@StopAfter]", *stop)
    assert stopped.value.code == 130
    assert "resumes at the newest checkpoint" in capfd.readouterr().err
    run(tmp_path)
    assert "resuming at step 2 of 7" in capfd.readouterr().out
    assert_same_run(tmp_path, unbroken)


def copy_of(folder, destination):
    shutil.copytree(folder, destination)
    return destination


def test_damaged_newest_checkpoint_is_named_and_the_run_ends_the_same(
    unbroken, tmp_path, capsys
):
    folder = copy_of(unbroken, tmp_path / "run")
    (folder / "checkpoints/step_000000007.npz").write_bytes(b"damaged")
    run(folder)
    printed = " ".join(capsys.readouterr().out.split())
    assert "step_000000007.npz cannot be read" in printed
    assert "resuming at step 5 of 7" in printed
    assert_same_run(folder, unbroken)


def test_run_without_a_readable_checkpoint_is_refused_and_nothing_is_deleted(
    unbroken, tmp_path, capsys
):
    folder = copy_of(unbroken, tmp_path / "run")
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    assert_one_line(capsys, "nothing has been deleted", folder)
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert metrics(folder) == metrics(unbroken)


CHANGES = {
    "BYOL.hidden_units = 24": "BYOL.hidden_units: 16 in the checkpoint, 24 now",
    "train.batch_size = 16": "train.batch_size: 32 in the checkpoint, 16 now",
    "train.seed = 1": "train.seed: 0 in the checkpoint, 1 now",
    "train.epochs = 4": "train.epochs: 3 in the checkpoint, 4 now (learning rate",
    "SGD.momentum = 0.5": "SGD.momentum: ",
    "RandomResizedCrop.size = 20": "RandomResizedCrop.size: 28 in the checkpoint",
    "fashion_mnist_small.split = 'train[1:81]'": "data.digest: ",
}


@pytest.mark.parametrize("binding", CHANGES)
def test_change_that_affects_the_result_is_refused_and_shown(unbroken, capsys, binding):
    before = (unbroken / "config.gin").read_text()
    with pytest.raises(SystemExit) as stopped:
        run(unbroken, binding)
    assert stopped.value.code == cli.EXIT_USER_ERROR
    *shown, error = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.strip().startswith(CHANGES[binding])]
    assert error == (
        "error: config differs from the checkpoint (listed above); use a new "
        "model_dir, or allow_config_change to resume anyway"
    )
    assert (unbroken / "config.gin").read_text() == before


def test_change_is_allowed_by_the_flag_and_part_of_the_next_checkpoint(
    unbroken, tmp_path, capsys
):
    folder = copy_of(unbroken, tmp_path / "run")
    run(folder, "train.epochs = 4", allow_config_change=True)
    assert "resuming at step 7 of 10" in capsys.readouterr().out
    assert [line["step"] for line in metrics(folder)] == list(range(1, 11))
    run(folder, "train.epochs = 4")
    assert "train.epochs = 4" in (folder / "config.gin").read_text()


def test_change_that_does_not_affect_the_result_needs_no_flag(unbroken, tmp_path):
    folder = copy_of(unbroken, tmp_path / "run")
    (folder / "checkpoints/step_000000007.npz").unlink()
    bindings = ("train.log_every_steps = 2", "Checkpoints.keep = 3")
    bindings += ("train.callbacks = [@TerminateOnNaN]", "Checkpoints.every_steps = 1")
    run(folder, *bindings)
    assert [line["step"] for line in metrics(folder)] == [1, 2, 3, 4, 5, 6]


def test_run_folder_in_use_is_refused(unbroken, capsys):
    with RunLock(unbroken / "run.lock"):
        assert_one_line(capsys, "must not be in use by another process", unbroken)


@pytest.mark.slow
def test_full_disk_ends_the_run_with_one_line_and_keeps_what_is_there(
    unbroken, tmp_path, capsys
):
    size = (unbroken / "checkpoints/step_000000007.npz").stat().st_size
    folder = copy_of(unbroken, tmp_path / "run")
    (folder / "checkpoints/step_000000007.npz").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, hard))
    try:
        with pytest.raises(SystemExit) as stopped:
            run(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stopped.value.code == 1
    (error,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert error.startswith("error: model_dir must be writable")
    assert os.listdir(folder / "checkpoints") == ["step_000000005.npz"]
    run(folder)
    assert_same_run(folder, unbroken)


def test_finished_run_is_not_trained_again(unbroken, capsys):
    before = metrics(unbroken)
    run(unbroken)
    assert metrics(unbroken) == before
    assert "backbone exported" in capsys.readouterr().out


def test_same_seed_gives_the_same_losses_and_another_seed_others(unbroken, tmp_path):
    run(tmp_path / "same")
    run(tmp_path / "other", "train.seed = 1")
    same, other = metrics(tmp_path / "same"), metrics(tmp_path / "other")
    expected = [line["loss"] for line in metrics(unbroken)]
    assert [line["loss"] for line in same] == expected
    assert [line["loss"] for line in other] != expected


def test_exported_saved_model_takes_uint8_and_float(unbroken):
    loaded = tf.saved_model.load(str(unbroken / "export/saved_model"))
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    from_uint8 = loaded.serve(tf.constant(images))["avgpool"]
    from_float = loaded.serve(tf.constant(images / np.float32(255)))["avgpool"]
    np.testing.assert_allclose(from_uint8, from_float, atol=1e-5)


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    run(tmp_path / "run", dry_run=True)
    printed = capsys.readouterr().out
    for text in ("7 = 3 epochs", "learning rate", "tau", "SGD", "exact resume", "80"):
        assert text in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_accumulation_and_two_replicas_train_from_the_command_line(tmp_path):
    bindings = ("BYOL.accumulation_steps = 2", "train.epochs = 1")
    bindings += ("warmup_cosine.warmup_epochs = 0",)
    run(tmp_path, *bindings, strategy="mirrored")
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    "precision",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_mixed_precision_exports_float32_features(tmp_path, precision):
    run(tmp_path, f"train.precision = '{precision}'", "train.epochs = 2")
    features = load_backbone(tmp_path)(np.zeros((1, 28, 28, 1), np.float32))
    assert features["avgpool"].dtype == tf.float32
    assert np.isfinite(features["avgpool"]).all()
    assert all(np.isfinite(line["loss"]) for line in metrics(tmp_path))


MISTAKES = {
    "unknown parameter": ("train.epoch = 3", "epoch"),
    "unknown name": ("train.views_fn = @ThreeViews", "ThreeViews"),
    "wrong type": ("train.epochs = 'ten'", "train.epochs must be an int"),
    "no epochs": ("train.epochs = 0", "train.epochs must be a positive int"),
    "batch too large": ("train.batch_size = 96", "num_examples (80). Received: 96"),
    "accumulation": (
        "BYOL.accumulation_steps = 3",
        "batch_size must be divisible by accumulation_steps",
    ),
    "warm-up": (
        "warmup_cosine.warmup_epochs = 3",
        "warmup_cosine.warmup_epochs must be smaller than epochs (3). Received: 3",
    ),
    "crop size": ("RandomResizedCrop.size = 0", "size must be an int"),
    "precision": ("train.precision = 'float8'", "train.precision must be one of"),
    "split": ("fashion_mnist_small.split = 'trian'", "trian"),
    "base tau": ("TargetEMA.base_tau = 1.5", "base_tau must be a number in 0..1"),
    "unused": ("SGD.momentum = 0.9\nAdam.beta_1 = 0.5", "Adam.beta_1"),
    "syntax": ("train.epochs = = 3", "gin"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_and_exit_code_2(mistake, tmp_path, capsys):
    binding, message = MISTAKES[mistake]
    assert_one_line(capsys, message, tmp_path / "run", *binding.split("\n"))
    assert not (tmp_path / "run").exists()


def assert_one_line(capsys, message, *arguments, **options):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, **options)
    assert stop.value.code == cli.EXIT_USER_ERROR
    errors = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]


def test_missing_gin_file_is_named(tmp_path, capsys):
    assert_one_line(capsys, "nowhere.gin", tmp_path, gin_file=tmp_path / "nowhere.gin")


def test_batch_that_replicas_cannot_share_is_refused(tmp_path, capsys):
    message = "replicas x accumulation_steps = 2 x 1"
    bindings = ("train.batch_size = 31",)
    assert_one_line(capsys, message, tmp_path, *bindings, strategy="mirrored")


FOLDERS = {
    "missing": lambda path: None,
    "empty": lambda path: path.mkdir(),
    "unreadable": lambda path: (
        path.mkdir(),
        [(path / f"{n}.png").write_bytes(b"no image") for n in range(3)],
    ),
}


def recipe_for(dataset, tmp_path):
    """The tiny recipe with another dataset, without bindings for its arguments."""
    lines = TINY.read_text().replace('include "gin/', f'include "{ROOT}/gin/')
    lines = [line for line in lines.splitlines() if "fashion_mnist_small" not in line]
    path = tmp_path / "recipe.gin"
    path.write_text("\n".join([*lines, f"train.dataset_fn = @{dataset}", ""]))
    return path


@pytest.mark.parametrize("kind", FOLDERS)
def test_bad_image_folder_is_one_line(kind, tmp_path, capsys):
    folder = tmp_path / "images"
    FOLDERS[kind](folder)
    recipe = recipe_for("image_folder", tmp_path)
    binding = f"image_folder.path = '{folder}'"
    assert_one_line(capsys, str(folder), tmp_path / "run", binding, gin_file=recipe)


def test_unknown_dataset_is_one_line_with_the_nearest_name(tmp_path, capsys):
    recipe, binding = (
        recipe_for("tfds_dataset", tmp_path),
        "tfds_dataset.name = 'cifar1'",
    )
    assert_one_line(capsys, "cifar10", tmp_path / "run", binding, gin_file=recipe)


THIRD_BROKEN = ("image_folder.max_bad_share = 0.4", "image_folder.channels = 1")


@pytest.fixture(scope="module")
def folder_third_broken(tmp_path_factory):
    """60 images, of which every third is broken in one of several ways."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("third_broken")
    for number in range(60):
        image = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        encoded = tf.io.encode_jpeg(image).numpy()
        cut = (b"", b"no image", encoded[:300], encoded[:-2])[number % 4]
        data = cut if number % 3 == 0 else encoded
        (folder / f"{number:02}.jpg").write_bytes(data)
    return folder


@pytest.mark.slow
def test_run_with_a_third_of_the_images_broken_trains_and_resumes_the_same(
    folder_third_broken, tmp_path, capsys
):
    recipe = recipe_for("image_folder", tmp_path)
    path = f"image_folder.path = '{folder_third_broken}'"
    arguments = (path, *THIRD_BROKEN)
    run(tmp_path / "whole", *arguments, gin_file=recipe)
    with pytest.raises(SystemExit):
        stop = ("train.callbacks = [@StopAfter()]", "StopAfter.steps = 3")
        run(tmp_path / "resumed", *arguments, *stop, gin_file=recipe)
    run(tmp_path / "resumed", *arguments, gin_file=recipe)
    assert "resuming at step" in capsys.readouterr().out
    runs = [metrics(tmp_path / name) for name in ("whole", "resumed")]
    losses = [[line["loss"] for line in lines] for lines in runs]
    assert losses[0] == losses[1]
    expected = {str(folder_third_broken / f"{n:02}.jpg") for n in range(0, 60, 3)}
    for name in ("whole", "resumed"):
        lines = (tmp_path / name / "bad_images.txt").read_text().splitlines()
        paths, reasons = zip(*(line.split("\t") for line in lines), strict=True)
        assert len(paths) == len(expected)
        assert set(paths) == expected
        assert set(reasons) >= {"empty file", "JPEG that is damaged or cut short"}


def test_run_with_too_many_broken_images_ends_in_one_line(
    folder_third_broken, tmp_path, capsys
):
    for number in range(6):  # so that the first images are all well
        image = folder_third_broken / f"{3 * number + 1:02}.jpg"
        for copy in range(4):
            target = tmp_path / "images" / f"0{number}{copy}.jpg"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(image.read_bytes())
    for image in folder_third_broken.iterdir():
        (tmp_path / "images" / f"1{image.name}").write_bytes(image.read_bytes())
    recipe = recipe_for("image_folder", tmp_path)
    bindings = (f"image_folder.path = '{tmp_path / 'images'}'", THIRD_BROKEN[1])
    message = "images must be readable, all but a share of 0.05 (max_bad_share; "
    assert_one_line(capsys, message, tmp_path / "run", *bindings, gin_file=recipe)
    assert len((tmp_path / "run/bad_images.txt").read_text().splitlines()) >= 5


def test_run_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert_one_line(capsys, "model_dir must be", tmp_path / "file" / "run")


def test_checkpoint_of_another_model_is_refused_even_with_the_flag(unbroken, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(unbroken, "BYOL.hidden_units = 24", allow_config_change=True)
    assert stopped.value.code == cli.EXIT_USER_ERROR
    assert "checkpoints of this model and optimizer" in capsys.readouterr().err


@gin.register
class LateBackbone(keras.Model):
    """A backbone without weights until its first call."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.conv = keras.layers.Conv2D(4, 3)
        self.pool = keras.layers.GlobalAveragePooling2D()

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, images):
        return self.pool(self.conv(images))

    def get_config(self):
        return {"channels": self.channels}


@pytest.mark.slow
def test_unbuilt_backbone_is_built_trained_and_resumed(tmp_path):
    backbone = "train.backbone_fn = @LateBackbone"
    stop = ("train.callbacks = [@StopAfter]", "StopAfter.steps = 3")
    with pytest.raises(SystemExit):
        run(tmp_path, backbone, *stop)
    run(tmp_path, backbone)
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 8))


def test_callback_that_starts_anew_is_named_in_the_plan(tmp_path, capsys):
    bindings = ("train.callbacks = [@EarlyStopping]", "EarlyStopping.monitor = 'loss'")
    run(tmp_path, *bindings, dry_run=True)
    assert "on, but EarlyStopping starts anew" in capsys.readouterr().out


def test_stock_layer_switches_exact_resume_off(tmp_path, capsys):
    views = "TwoViews.view1 = [@RandomResizedCrop(), @keras_cv.layers.RandomContrast()]"
    values = ("RandomContrast.value_range = (0, 1)", "RandomContrast.factor = 0.3")
    run(tmp_path, views, *values, dry_run=True)
    assert "off: a stock layer draws" in capsys.readouterr().out


@keras.saving.register_keras_serializable(package="test_train")
def add_noise(images):
    return images + tf.random.uniform([])


@gin.register
def noisy_backbone(channels):
    images = keras.Input((None, None, channels))
    x = keras.layers.Lambda(add_noise)(images)
    x = keras.layers.Conv2D(8, 3)(x)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


def test_layer_with_its_own_random_state_switches_exact_resume_off(tmp_path, capsys):
    run(tmp_path, "train.backbone_fn = @noisy_backbone", dry_run=True)
    assert "off: a layer of the model has" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [True, False])
def test_only_a_dry_run_of_a_dataset_that_is_not_prepared_downloads_nothing(
    dry_run, tmp_path, monkeypatch, capsys
):
    downloads = []

    def prepare(builder, name, manual_dir, download):
        downloads.append(download)
        raise ValueError(f"stopped. Received: {name}")

    monkeypatch.setattr(tfds_builders, "prepare", prepare)
    gin.clear_config()
    parse.parse_gin(
        [str(ROOT / "gin/pretrain/cifar10_resnet18.gin")],
        [f"tfds_dataset.data_dir = '{tmp_path}'"],
    )
    if dry_run:
        rules.refuse_downloads()
    with pytest.raises(SystemExit):
        train.train(None, strategy="cpu", dry_run=dry_run)
    assert downloads == [not dry_run]


command = functools.partial(command_line, "train")


def test_command_line_dry_run_ends_with_exit_code_0():
    done = command(f"--gin_file={FASHION_MNIST}", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "learning rate" in done.stdout
