"""A wrong configuration ends with a line for each mistake, before data are read."""

import os
import subprocess
import sys
import tempfile
import time

import gin
import keras
import pytest

from byol_keras import (
    data,
    train,  # noqa: F401
)
from byol_keras.benchmarks.__main__ import check_configuration
from byol_keras.config import parse
from byol_keras.data import image_files
from byol_keras.runtime import cli
from byol_keras.training import rules

from support import ROOT
from support.runs import FASHION_MNIST

# CPU seconds of this process, or of one that it starts, whatever else is running.
LIMIT_SECONDS = 20.0


@gin.register(module="tests")
def picky(size: int, names: list[str] = ()):
    raise KeyError(size)


@gin.register(module="tests")
def picky_backbone(channels):
    raise ValueError(f"channels must be others. Received: {channels}")


@pytest.fixture(autouse=True)
def nothing_is_read(monkeypatch):
    """Fails if data are read while the configuration is checked."""

    def refuse(*arguments, **keywords):
        raise AssertionError("data were read")

    monkeypatch.setattr(image_files, "find_images", refuse)
    monkeypatch.setattr(data, "tfds_folder", refuse)


def lines_of(capsys, *bindings, gin_file=FASHION_MNIST):
    """Error lines of a configuration, without "error: "."""
    gin.clear_config()
    capsys.readouterr()
    started = time.process_time()
    with pytest.raises(SystemExit) as stop, cli.user_errors():
        parse.parse_gin([str(gin_file)], list(bindings))
        rules.check_configuration()
    assert stop.value.code == cli.EXIT_USER_ERROR
    assert time.process_time() - started < LIMIT_SECONDS
    printed = capsys.readouterr().err.splitlines()
    errors = [x for x in printed if x.startswith("error: ")]
    assert errors
    return [line.removeprefix("error: ") for line in errors]


UNUSED = "every gin binding must be used by what the configuration builds. Received: "
PARAM = "Received: '{}'"

OTHER_SIZE = "TwoViews.view2 = [@b/RandomResizedCrop()]\nb/RandomResizedCrop.size = 32"
WIDE_BLUR = (
    "TwoViews.view2 = [@RandomResizedCrop(), @GaussianBlur()]\nGaussianBlur.radius = 14"
)
# Binding -> its only line, or the beginning of it.
ONE_LINE = {
    # Names.
    "train.epoch = 3": "train.epoch must be a parameter of train (nearest: epochs).",
    "trian.epochs = 3": "trian must be a known name (nearest: train",
    "BYOL.hiden_units = 8": "BYOL.hiden_units must be a parameter of BYOL "
    "(nearest: hidden_units, output_units).",
    "RandomResizedCrop.sise = 8": "RandomResizedCrop.sise must be a parameter of "
    "RandomResizedCrop (nearest: size",
    "SGD.momentun = 0.9": "SGD.momentun must be a parameter of SGD (nearest: momentum",
    "train.views_fn = @ThreeViews": "@ThreeViews must be a known name "
    "(nearest: TwoViews, AugmentedView).",
    "train.optimizer_fn = @AdamWW": "@AdamWW must be a known name "
    "(nearest: AdamW, Adam).",
    "TwoViews.view1 = [@RandomResizedCrop(), @RandomHu()]": "@RandomHu must be a known "
    "name (nearest: RandomHue",
    "train.epochs = %EPOCS\nEPOCHS = 3": "%EPOCS must be defined (nearest: EPOCHS).",
    "include 'gin/pretrain/quikstart.gin'": "include must name an existing file "
    "(nearest: gin/pretrain/quickstart.gin",
    # Syntax.
    "train.epochs = = 3": "every line must be gin syntax (Unable to parse value). "
    + PARAM.format("train.epochs = = 3"),
    "train.epochs": "every line must be gin syntax (Couldn't parse statement, expected "
    "':' or '='). " + PARAM.format("train.epochs"),
    "train.precision = float32": "every line must be gin syntax ('float32' is no value;"
    " text needs quotes). " + PARAM.format("train.precision = float32"),
    "TwoViews.view1 = [@RandomResizedCrop(),": "brackets and quotes must be closed",
    # Types.
    "train.epochs = 'ten'": "train.epochs must be an int. Received: 'ten'",
    "train.epochs = 3.0": "train.epochs must be an int. Received: 3.0",
    "train.epochs = None": "train.epochs must be an int. Received: None",
    "train.batch_size = True": "train.batch_size must be an int. Received: True",
    "train.jit_compile = 'yes'": "train.jit_compile must be True or False.",
    "train.seed = 'a'": "train.seed must be an int. Received: 'a'",
    "warmup_cosine.base_learning_rate = '0.4'": "warmup_cosine.base_learning_rate must "
    "be a number. Received: '0.4'",
    "warmup_cosine.warmup_epochs = 1.5": "warmup_cosine.warmup_epochs must be an int.",
    "jitter/RandomApply.rate = '0.8'": "jitter/RandomApply.rate must be a number.",
    "ColorJitter.brightness = 'strong'": "ColorJitter.brightness must be a number.",
    "RandomResizedCrop.area = 0.5": "RandomResizedCrop.area must be a list.",
    "fashion_mnist_small.split = 3": "fashion_mnist_small.split must be a string.",
    "resnet18.width = '1'": "resnet18.width must be a number. Received: '1'",
    "resnet18.mean = [0.5, 'x', 0.5]": "resnet18.mean must be a list of numbers or "
    "None. Received: [0.5, 'x', 0.5]",
    "train.dataset_fn = @fashion_mnist_small()": "train.dataset_fn must be a function, "
    "as @name without (). Received: @fashion_mnist_small()",
    "train.dataset_fn = 'fashion_mnist_small'": "train.dataset_fn must be a function, "
    "as @name. Received: 'fashion_mnist_small'",
    "train.callbacks = [3]": "train.callbacks must be a list of functions",
    "train.epochs = @GaussianBlur()": "train.epochs must be an int. Received: @Gaus",
    # Values.
    "train.epochs = 0": "train.epochs must be a positive int. Received: 0",
    "train.batch_size = -1": "train.batch_size must be a positive int. Received: -1",
    "train.log_every_steps = 0": "train.log_every_steps must be a positive int.",
    "train.seed = -1": "train.seed must be in 0..4294967295. Received: -1",
    "train.precision = 'float8'": "train.precision must be one of ('float32', ",
    "train.last_batch = 'keep'": "last_batch must be one of ('carry', 'pad').",
    "BYOL.hidden_units = -3": "BYOL.hidden_units must be a positive int. Received: -3",
    "BYOL.target_init = 'cpy'": "BYOL.target_init must be one of ('copy', 'random').",
    "TargetEMA.base_tau = 1.5": "TargetEMA.base_tau must be a number in 0..1.",
    "TargetEMA.reference_batch_size = 0": "TargetEMA.reference_batch_size must be a "
    "positive int",
    "RandomResizedCrop.size = 0": "RandomResizedCrop.size must be an int or (height, ",
    "ColorJitter.hue = 0.7": "ColorJitter.hue must be at most 0.5 turns. Received: 0.7",
    "TwoViews.view1 = []": "TwoViews.view1 must be a non-empty list of layers.",
    "TwoViews.view1 = [@RandomResizedCrop]": "TwoViews.view1 must be a non-empty list",
    "SGD.weight_decay = -1.0": "SGD.weight_decay must not be negative. Received: -1.0",
    "SGD.momentum = 1.5": "SGD must be given what it takes (`momentum` must be ",
    "SGD.clipnorm = -1.0": "SGD.clipnorm must be positive. Received: -1.0",
    "SGD.gradient_accumulation_steps = 4": "SGD.gradient_accumulation_steps must be "
    "None; use BYOL.accumulation_steps. Received: 4",
    "warmup_cosine.warmup_epochs = 36": "warmup_cosine.warmup_epochs must be smaller "
    "than epochs (36). Received: 36",
    "warmup_cosine.base_learning_rate = -0.1": "the learning rate must be positive ",
    "warmup_cosine.base_learning_rate = 0.0": "the learning rate must be positive ",
    # Several settings at once.
    "BYOL.accumulation_steps = 3": "batch_size must be divisible by "
    "accumulation_steps (3). Received: 128",
    "BYOL.accumulation_steps = 128": "train.batch_size must be at least 2 x "
    "accumulation_steps = 256, since BatchNormalization needs two images. Received: ",
    "train.batch_size = 1": "train.batch_size must be at least 2 x accumulation_steps "
    "= 2, since BatchNormalization needs two images. Received: 1",
    OTHER_SIZE: "view1 and view2 must have the same size. Received: {'view1': (28, 28)",
    WIDE_BLUR: "GaussianBlur.radius must give a kernel of 2 * radius + 1 pixels within "
    "view2 of (28, 28). Received: 14",
    # What is missing, and what is too much.
    "train.callbacks = [@CSVLogger()]": "CSVLogger.filename must be bound.",
    "train.dataset_fn = @tfds_dataset": "tfds_dataset.name must be bound. Received: ",
    "train.learning_rate_fn = @warmup_epoch_cosine": "warmup_epoch_cosine."
    "base_learning_rate must be bound. Received: nothing",
    "train.optimizer_fn = @AdamW": "the learning rate must be at most 0.02 with AdamW; "
    "LARS and SGD take more. Received: up to 0.2, scaled to the batch",
    "Adam.beta_1 = 0.5": UNUSED + "Adam.beta_1, which nothing uses",
    "EPOCHS = 3": UNUSED + "EPOCHS, which nothing uses",
    "a/RandomResizedCrop.size = 28": UNUSED + "a/RandomResizedCrop.size, which nothing",
    "RandomApply.rate = 0.5": UNUSED + "RandomApply.rate, which nothing uses",
}


@pytest.mark.parametrize("binding", ONE_LINE)
def test_mistake_is_one_line_with_argument_rule_and_value(binding, capsys):
    (line,) = lines_of(capsys, *binding.split("\n"))
    assert line.startswith(ONE_LINE[binding])
    assert ". Received: " in line


def test_there_are_more_than_forty_wrong_configurations():
    assert len(ONE_LINE) > 40


# Bindings -> all of their lines, in any order, each by its beginning.
SEVERAL_LINES = {
    ("train.epoch = 3", "SGD.momentun = 0.9"): (
        "train.epoch must be a parameter",
        "SGD.momentun must be a parameter",
    ),
    ("train.epochs = 'ten'", "BYOL.hidden_units = -3", "resnet18.width = 0"): (
        "train.epochs must be an int. Received: 'ten'",
        "BYOL.hidden_units must be a positive int. Received: -3",
        "resnet18.width must be a positive number. Received: 0",
    ),
    ("RandomResizedCrop.size = 0", "ColorJitter.hue = 0.7"): (
        "RandomResizedCrop.size must be",
        "ColorJitter.hue must be at most 0.5",
    ),
    ("train.seed = -1", "TargetEMA.base_tau = 2.0"): (
        "train.seed must be in",
        "TargetEMA.base_tau must be",
    ),
    ("train.model_fn = @GaussianBlur",): (
        "train.model_fn must be a function of backbone. Received: @GaussianBlur",
        UNUSED + "BYOL.hidden_units",
        UNUSED + "BYOL.output_units",
    ),
    ("RandomResizedCrop.size = 4000",): (
        "view1 must be at most 2048 pixels wide and high. Received: (4000, 4000)",
        "view2 must be at most 2048 pixels wide and high. Received: (4000, 4000)",
    ),
    ("train.callbacks = [@picky(), @tests.nothing()]",): (
        "@tests.nothing must be a known name (nearest: ",
    ),
}


@pytest.mark.parametrize("bindings", SEVERAL_LINES, ids=lambda x: x[0])
def test_all_mistakes_are_reported_together(bindings, capsys):
    lines = lines_of(capsys, *bindings)
    expected = SEVERAL_LINES[bindings]
    assert len(lines) == len(expected)
    for beginning in expected:
        assert [line for line in lines if line.startswith(beginning)], beginning


def test_any_error_of_a_constructor_is_shown_with_its_arguments(capsys):
    (line,) = lines_of(capsys, "train.callbacks = [@picky()]", "picky.size = 7")
    assert line == "picky must be given what it takes (7). Received: size=7"


def test_backbone_is_checked_only_if_there_is_another_mistake(tmp_path, capsys):
    recipe = tmp_path / "recipe.gin"
    text = FASHION_MNIST.read_text().replace('"gin/', f'"{ROOT}/gin/')
    lines = [line for line in text.splitlines() if "gin/backbone/" not in line]
    recipe.write_text("\n".join([*lines, "train.backbone_fn = @picky_backbone"]))
    line = "picky_backbone.channels must be others. Received: 3"
    assert line in lines_of(capsys, "train.seed = -1", gin_file=recipe)
    gin.clear_config()
    parse.parse_gin([str(recipe)], [])
    rules.check_configuration()


def test_without_a_trial_only_bindings_are_checked():
    gin.clear_config()
    parse.parse_gin([str(FASHION_MNIST)], ["RandomResizedCrop.size = 0"])
    rules.check_configuration(trial=False)
    with gin.unlock_config():
        gin.bind_parameter("train.epochs", "ten")
    with pytest.raises(ValueError, match=r"train.epochs must be an int. Received: 'te"):
        rules.check_configuration(trial=False)


@pytest.mark.parametrize("mistake", ["unknown.name = 3", "train.epochs = = 3"])
def test_mistake_in_a_file_is_shown_with_its_line(mistake, tmp_path, capsys):
    file = tmp_path / "recipe.gin"
    file.write_text(f"# A comment.\n\n{mistake}\n")
    (line,) = lines_of(capsys, gin_file=file)
    assert line.endswith(f"Received: '{mistake}' in line 3 of {file}")


def test_file_must_not_include_itself(tmp_path, capsys):
    file = tmp_path / "recipe.gin"
    file.write_text(f"include '{file}'\n")
    (line,) = lines_of(capsys, gin_file=file)
    assert line == f"a gin file must not include itself. Received: {file}"


def test_file_must_be_text(tmp_path, capsys):
    file = tmp_path / "recipe.gin"
    file.write_bytes(b"\xff\xfe\x00")
    (line,) = lines_of(capsys, gin_file=file)
    assert line.startswith(f"a gin file must be readable text. Received: {file} (")


def test_all_missing_files_are_reported(tmp_path, capsys):
    gin.clear_config()
    names = [str(tmp_path / name) for name in ("a.gin", "b.gin")]
    with pytest.raises(SystemExit), cli.user_errors():
        parse.parse_gin(names, [])
    lines = capsys.readouterr().err.splitlines()
    rule = "error: gin_files must exist. Received: "
    assert lines == [rule + name for name in names]


def test_all_missing_bindings_are_reported(tmp_path, capsys):
    file = tmp_path / "recipe.gin"
    file.write_text("train.epochs = 3\n")
    lines = lines_of(capsys, gin_file=file)
    missing = ("dataset", "views", "backbone", "model", "optimizer", "learning_rate")
    names = [f"{name}_fn" for name in (*missing, "target_ema")] + ["batch_size"]
    assert sorted(lines) == sorted(
        f"train.{name} must be bound. Received: nothing" for name in names
    )


def test_unused_binding_of_an_included_file_is_no_mistake(tmp_path):
    fragment, recipe = tmp_path / "fragment.gin", tmp_path / "recipe.gin"
    fragment.write_text("RandomApply.rate = 0.5\n")
    recipe.write_text(f"include '{FASHION_MNIST}'\ninclude '{fragment}'\n")
    gin.clear_config()
    parse.parse_gin([str(recipe)], [])
    rules.check_configuration()


def test_search_for_included_files_logs_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    gin.clear_config()
    parse.parse_gin([str(FASHION_MNIST)], [])
    assert not caplog.messages


def process(module, *arguments, cwd=ROOT):
    """Exit code, error lines, CPU seconds and all of stderr of a command."""
    with tempfile.TemporaryFile("w+") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", f"byol_keras.{module}", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=output,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        # `wait4` returns the time of this process alone, not that of all children.
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        stderr = output.read()
    assert "Traceback" not in stderr
    errors = [x for x in stderr.splitlines() if x.startswith("error: ")]
    return started.returncode, errors, usage.ru_utime + usage.ru_stime, stderr


RECIPE = f"--gin_file={FASHION_MNIST}"
KNN = f"--gin_file={ROOT / 'gin/benchmarks/knn_fashion_mnist_small.gin'}"
PROCESSES = {
    "two mistakes": (
        (
            *("train", RECIPE, "--dry_run"),
            "--gin_param=train.epochs='ten'",
            "--gin_param=BYOL.output_units=0",
        ),
        ("error: train.epochs must be an int.", "error: BYOL.output_units must be"),
    ),
    "unknown flag and no file": (
        ("train", "--gin_fil=a", "--model_dir=x"),
        ("error: arguments must be flags of this command (Unknown command line flag",),
    ),
    "file as an argument": (
        ("train", str(FASHION_MNIST)),
        ("error: arguments must be flags, as --gin_file=FILE. Received: ",),
    ),
    "strategy, run folder and binding": (
        (
            *("train", RECIPE, "--strategy=mirorred", f"--model_dir={__file__}"),
            "--gin_param=train.epoch=3",
        ),
        (
            "error: --strategy must be one of ('auto', ",
            "error: --model_dir must be a folder. Received: ",
            "error: train.epoch must be a parameter of train",
        ),
    ),
    "benchmark": (
        (
            *("benchmarks", KNN, "--model_dir=absent"),
            "--gin_param=knn.k='x'",
            "--gin_param=linear.epochs=3",
        ),
        ("error: knn.k must be a list of ints.", f"error: {UNUSED}linear.epochs"),
    ),
}


SHORT = ("strategy, run folder and binding", "benchmark")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SHORT else pytest.mark.slow)
        for name in PROCESSES
    ],
)
def test_command_prints_its_lines_and_exits_with_code_2_in_time(name):
    (module, *arguments), expected = PROCESSES[name]
    code, errors, seconds, _ = process(module, *arguments)
    assert code == cli.EXIT_USER_ERROR
    assert len(errors) == len(expected)
    for line, beginning in zip(errors, expected, strict=True):
        assert line.startswith(beginning)
    assert seconds < LIMIT_SECONDS


@pytest.mark.slow
def test_dry_run_from_another_folder_is_silent(tmp_path):
    code, errors, _, stderr = process("train", RECIPE, "--dry_run", cwd=tmp_path)
    assert (code, errors) == (0, [])
    assert "Path not found" not in stderr


BENCHMARK_MISTAKES = {
    "knn.temperature = 'warm'": "knn.temperature must be a number. Received: 'warm'",
    "knn.k = (1, 2.5)": "knn.k must be a list of ints. Received: (1, 2.5)",
    "knn.nearest = 3": "knn.nearest must be a parameter of knn (nearest: ",
    "benchmark.benchmarks = [@kn]": "@kn must be a known name (nearest: knn",
    "benchmark.seeds = 'three'": "benchmark.seeds must be an int. Received: 'three'",
    "benchmark.baselines = 'random_init'": "benchmark.baselines must be a list of str",
    "linear.epochs = 3": UNUSED + "linear.epochs, which nothing uses",
    "knn.transform = 'resize_square'": "knn.transform must be a function, as @name or "
    "None. Received: 'resize_square'",
}


@pytest.mark.parametrize("binding", BENCHMARK_MISTAKES)
def test_mistake_of_a_benchmark_is_one_line(binding, capsys):
    gin.clear_config()
    recipe = ROOT / "gin/benchmarks/knn_fashion_mnist_small.gin"
    with pytest.raises(SystemExit) as stop, cli.user_errors():
        parse.parse_gin([str(recipe)], [binding])
        check_configuration()
    assert stop.value.code == cli.EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {BENCHMARK_MISTAKES[binding]}")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "gin/pretrain").glob("*.gin")), ids=lambda path: path.stem
)
def test_recipe_has_no_mistakes(path):
    gin.clear_config()
    parse.parse_gin([str(path)], [])
    rules.check_configuration()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "gin/benchmarks").glob("*.gin")), ids=lambda path: path.stem
)
def test_benchmark_has_no_mistakes(path):
    gin.clear_config()
    parse.parse_gin([str(path)], [])
    check_configuration()


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_of_a_pretrained_backbone_are_no_mistake(channels, tmp_path, capsys):
    images = keras.Input((None, None, channels))
    features = keras.layers.GlobalAveragePooling2D()(images)
    keras.Model(images, features).save(tmp_path / "backbone.keras")
    text = FASHION_MNIST.read_text()
    lines = [line for line in text.splitlines() if "gin/backbone/" not in line]
    lines.append("train.backbone_fn = @pretrained_backbone")
    lines.append(f"pretrained_backbone.file = '{tmp_path / 'backbone.keras'}'")
    recipe = tmp_path / "recipe.gin"
    recipe.write_text("\n".join(lines))
    (found,) = lines_of(capsys, "train.epochs = 0", gin_file=recipe)
    assert found.startswith("train.epochs must be a positive int")
