"""Every gin file parses, builds its objects, and has the published settings.

Stand-ins of the real size replace data that this machine does not have. Before that,
the real constructor must accept the recipe's bindings and report its missing files.
"""

import re

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data, train
from byol_keras.benchmarks.__main__ import benchmark
from byol_keras.config import operative
from byol_keras.config.parse import parse_gin
from byol_keras.schedules import RunLength

from support import ROOT
from support.datasets import image_data
from support.models import export_five_stages
from support.processes import command_line
from support.recipes import (
    ABSENT,
    IMAGENET,
    PRETRAIN,
    all_bindings,
    files,
    parse,
    stand_in_bindings,
    statements,
)

RUNNABLE = ("pretrain", "benchmarks")


# Recipe -> steps, peak learning rate, base tau, weight decay, accumulation steps.
# Source: the configurations named in the headers of the recipes.
PUBLISHED = {
    "deepmind_40e": (12_511, 7.2, 0.97, 1e-6, 1),
    "deepmind_100e": (31_278, 7.2, 0.99, 1e-6, 1),
    "deepmind_300e": (93_835, 4.8, 0.99, 1e-6, 1),
    "deepmind_1000e": (312_784, 3.2, 0.996, 1.5e-6, 1),
    "mmselfsup_8xb32-accum16-coslr-200e": (62_563, 4.8, 0.99, 1e-6, 16),
    "mmselfsup_8xb32-accum16-coslr-300e": (93_844, 4.8, 0.99, 1e-6, 16),
    "mmselfsup_16xb256-coslr-200e": (62_600, 4.8, 0.99, 1e-6, 1),
    "mmselfsup_8xb256-accum2-coslr-100e": (626 * 50, 7.2, 0.99, 1e-6, 2),
    "mmselfsup_8xb256-accum2-coslr-200e": (626 * 100, 4.8, 0.99, 1e-6, 2),
    "mmselfsup_8xb256-accum2-coslr-300e": (626 * 150, 4.8, 0.99, 1e-6, 2),
}

# Recipe -> optimizer step -> learning rate. mmselfsup's own values are per
# micro-iteration; an update uses that of its last one.
LEARNING_RATES = {
    "deepmind_100e": {0: 0.0, 1: 0.00230252638311, 15639: 4.22495759486},
    "deepmind_300e": {
        0: 0.0,
        1: 0.0015350175887432,
        1000: 1.5350175887432,
        3126: 4.79846498241,
        3127: 4.8,
        20000: 4.40172807834151,
        46917: 2.529939104743,
        93834: 1.43942751e-9,
    },
    "deepmind_1000e": {
        1: 0.00102334505916,
        1000: 1.02334505916214,
        100000: 2.48749215749781,
        156392: 1.62537865643,
    },
    "mmselfsup_16xb256-coslr-200e": {
        1: 0.00201339297125,
        312: 0.478898607029,
        313: 0.480402365148,
        3129: 4.77453103438,
        3130: 4.77045201743,
        31300: 2.4,
        62599: 0.000296082044015,
    },
    "mmselfsup_8xb32-accum16-coslr-200e": {
        3129: 4.77045201743,  # micro-iteration 50,079, in epoch 10
        3441: 4.76426238277,
        31281: 2.4,
        62562: 0.000296082044015,
    },
    "mmselfsup_8xb32-accum16-coslr-300e": {
        3129: 4.78685254888,
        31281: 3.6,
        46922: 2.4,
        93843: 0.000131593522771,
    },
    "mmselfsup_8xb256-accum2-coslr-100e": {15650: 3.6},
    "mmselfsup_8xb256-accum2-coslr-200e": {31300: 2.4},
    "mmselfsup_8xb256-accum2-coslr-300e": {31300: 3.6, 46950: 2.4},
}

# Recipe -> optimizer step -> tau.
TAUS = {
    "deepmind_300e": {1000: 0.990002802008639, 46917: 0.994999916300084},
    "deepmind_1000e": {
        1: 0.996000000000101,
        1000: 0.996000100880456,
        100000: 0.996926805458635,
        156392: 0.998,
    },
    "mmselfsup_16xb256-coslr-200e": {
        0: 0.99,
        1: 0.990000000006296,
        3130: 0.990061558297024,
        31300: 0.995,
    },
}


BENCHMARKS = files("benchmarks")


def _slow(name):
    """Marks recipes that take long even with small data."""
    is_slow = name.startswith(("suite_", "svm_", "finetune_"))
    return [pytest.mark.slow] if is_slow else []


OF_EXPERIMENTS = [
    pytest.param(path, id=path.parent.name)
    for path in sorted((ROOT / "experiments").glob("*/benchmarks.gin"))
]
# Detection and segmentation need other data and have their own tests.
CLASSIFICATION = OF_EXPERIMENTS + [
    pytest.param(*case.values, id=case.id, marks=_slow(case.values[0].stem))
    for case in BENCHMARKS
    if not case.values[0].stem.startswith(("detection_", "segmentation_"))
]
FRAGMENTS = [case for case in files() if case.values[0].parent.name not in RUNNABLE]


@pytest.fixture(autouse=True)
def clean_state():
    gin.clear_config()
    yield
    gin.clear_config()
    keras.config.set_dtype_policy("float32")


class StandIns:
    """Registers `stand_in_<constructor>`, which returns small random images.

    It also calls the constructor with the recipe's bindings. A constructor whose files
    this machine does not have must report that they are missing.
    """

    def __init__(self, constructor, absent):
        self.constructor = constructor
        self.absent = absent
        gin.external_configurable(self.make, f"stand_in_{constructor}", module="tests")

    def make(self):
        build = gin.get_configurable(self.constructor)
        if self.absent:
            with pytest.raises(ValueError, match=ABSENT):
                build()
        else:
            build()
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60, 28, 28, 3), dtype=np.uint8)
        if self.constructor == "voc_classification":
            return image_data(images, np.tile(np.eye(20, dtype=np.int64), (3, 1)))
        return data.arrays(images, np.arange(60) % 10)

    @property
    def overrides(self):
        return [f"{self.constructor}.{binding}" for binding in self.absent]


ABSENT_PATH = ("path = 'absent'",)
LABELLED = [
    StandIns("tfds_dataset", ("data_dir = 'absent'", "download = False")),
    StandIns("clothing_small", ()),
    StandIns("fashion_mnist_small", ()),
    StandIns("fashion_mnist_idx", ABSENT_PATH),
    StandIns("image_folder", ABSENT_PATH),
    StandIns("inaturalist2018", ABSENT_PATH),
    StandIns("places205", ABSENT_PATH),
    StandIns("voc_classification", ABSENT_PATH),
]
# Parameters that make a recipe long -> values that make it short.
SHORT = {
    "batch_size": 20,
    "epochs": {int: 1, tuple: (1,)},
    "base_learning_rates": (0.1,),
    "head_multipliers": (1,),
    "milestones": (1,),
    "costs": (1.0,),
    "folds": 3,
    "fraction": 0.5,
    "k": (1,),
    "ks": (1,),
    "samples": 1,
    "l2": (1.0,),
}


def parse_benchmark(path):
    """Parses a recipe with small data, few epochs and a grid with one point."""
    bindings, overrides = all_bindings(path), []
    for stand_in in LABELLED:
        pattern = rf"(?<![\w/])@((?:\w+/)*){stand_in.constructor}\(\)"
        for name, value in bindings.items():
            if re.fullmatch(pattern, str(value)):
                overrides += stand_in.overrides
                value = re.sub(pattern, rf"@\1stand_in_{stand_in.constructor}()", value)
                overrides.append(f"{name} = {value}")
    for name, value in bindings.items():
        short = SHORT.get(name.rpartition(".")[2])
        if short is not None:
            short = short[type(value)] if isinstance(short, dict) else short
            overrides.append(f"{name} = {short!r}")
    parse(path, *dict.fromkeys(overrides))


def recipe(name, *overrides):
    """The bindings of `train` and the length of the run."""
    parse(ROOT / "gin/pretrain" / f"{name}.gin", *overrides)
    settings = gin.get_bindings("train")
    length = RunLength(
        IMAGENET,
        settings["batch_size"],
        settings["epochs"],
        accumulation_steps=gin.get_bindings("BYOL").get("accumulation_steps", 1),
        last_batch=settings["last_batch"],
    )
    return settings, length


@pytest.mark.parametrize("path", FRAGMENTS)
def test_fragment_includes_nothing_and_binds_something(path):
    bindings, includes = statements(path)
    assert bindings
    assert not includes


@pytest.mark.parametrize("path", PRETRAIN)
def test_recipe_includes_one_fragment_per_noun(path):
    nouns = [file.parent.name for file in statements(path)[1]]
    assert len(nouns) == len(set(nouns))
    assert {"backbone", "data", "views", "optimizer"} <= set(nouns)


@pytest.mark.parametrize("path", BENCHMARKS)
def test_benchmark_includes_protocols_only(path):
    assert {file.parent.name for file in statements(path)[1]} <= {"protocol"}


@pytest.mark.parametrize("path", PRETRAIN + BENCHMARKS)
def test_included_files_are_fragments(path):
    known = [case.values[0] for case in FRAGMENTS]
    assert all(file in known for file in statements(path)[1])


@pytest.mark.parametrize("path", FRAGMENTS)
def test_fragment_is_used_by_a_recipe_or_its_choice(path):
    runnable = [case.values[0] for case in PRETRAIN + BENCHMARKS]
    chosen = f"#   --gin_file={path.relative_to(ROOT).as_posix()} "
    assert any(
        path in statements(file)[1] or chosen in file.read_text() for file in runnable
    )


@pytest.mark.parametrize("path", files())
def test_file_binds_nothing_twice(path):
    names = [name for name, _ in statements(path)[0]]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", PRETRAIN + BENCHMARKS)
def test_no_two_fragments_of_a_recipe_bind_the_same(path):
    fragments = statements(path)[1]
    names = [name for file in fragments for name, _ in statements(file)[0]]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", PRETRAIN + BENCHMARKS)
def test_header_has_source_command_time_and_result(path):
    header = path.read_text().partition("\ninclude")[0]
    command = "train" if path.parent.name == "pretrain" else "benchmarks"
    for part in (
        "Source: ",
        f"python -m byol_keras.{command}",
        f"--gin_file=gin/{path.parent.name}/{path.name}",
        "Commonly changed: ",
        "Time: ",
        "Result: ",
    ):
        assert part in header, part


@pytest.mark.parametrize("path", PRETRAIN)
def test_recipe_builds_and_uses_every_binding(path, capsys):
    parse(path, *stand_in_bindings(path))
    train.train(None, strategy="cpu", dry_run=True)
    assert operative.unused_bindings(with_included=True) == []
    assert f"{gin.query_parameter('train.epochs')} epochs" in capsys.readouterr().out


def test_unused_binding_of_a_recipe_is_reported(capsys):
    path = ROOT / "gin/pretrain/deepmind_40e.gin"
    parse(path, *stand_in_bindings(path), "SGD.momentum = 0.5")
    with pytest.raises(SystemExit) as stop:
        train.train(None, strategy="cpu", dry_run=True)
    assert stop.value.code == 2
    assert "SGD.momentum, which nothing uses" in capsys.readouterr().err


OWN_IMAGES = ROOT / "gin/pretrain/image_folder_resnet18.gin"
PRESETS = re.findall(r"--gin_file=(gin/views/\S+)", OWN_IMAGES.read_text())


def described_views():
    """Layers of both views and their settings, without Keras's numbered names."""
    views = gin.get_bindings("train")["views_fn"]()
    return [
        (type(layer), {**layer.get_config(), "name": None, "layer": None})
        for view in (views.view1, views.view2)
        for outer in view.layers
        for layer in (outer, getattr(outer, "layer", outer))
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_after_the_recipe_replaces_its_views(preset, capsys):
    parse(ROOT / preset)
    alone = described_views()
    gin.clear_config()
    overrides = stand_in_bindings(OWN_IMAGES)
    parse_gin([str(OWN_IMAGES), str(ROOT / preset)], overrides)
    assert described_views() == alone
    train.train(None, strategy="cpu", dry_run=True)
    assert "100 epochs" in capsys.readouterr().out


def test_only_unused_bindings_of_the_command_line_are_errors_after_a_preset(capsys):
    preset = ROOT / "gin/views/satellite_96.gin"
    overrides = [*stand_in_bindings(OWN_IMAGES), "Solarize.threshold = 0.7"]
    parse_gin([str(OWN_IMAGES), str(preset)], overrides)
    with pytest.raises(SystemExit):
        train.train(None, strategy="cpu", dry_run=True)
    printed = capsys.readouterr().err
    assert "Solarize.threshold, which nothing uses" in printed
    assert "view2_solarize" not in printed


def test_every_published_recipe_has_its_numbers_here():
    names = {case.values[0].stem for case in PRETRAIN}
    assert set(PUBLISHED) == {
        name for name in names if name.startswith(("deepmind_", "mmselfsup_"))
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_has_the_published_totals(name):
    settings, length = recipe(name)
    rate = settings["learning_rate_fn"](length)
    optimizer = settings["optimizer_fn"](learning_rate=rate)
    ema = settings["target_ema_fn"](
        total_steps=length.total_steps, batch_size=length.batch_size
    )
    assert (
        length.total_steps,
        pytest.approx(rate.peak_learning_rate),
        float(ema.tau(0)),
        optimizer.get_config()["weight_decay"],
        length.accumulation_steps,
    ) == PUBLISHED[name]
    assert length.batch_size == 4096
    assert float(ema.tau(length.total_steps)) == 1.0


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_recipe_has_the_published_learning_rates(name):
    settings, length = recipe(name)
    rate = settings["learning_rate_fn"](length)
    for step, expected in LEARNING_RATES[name].items():
        assert float(rate(step)) == pytest.approx(expected, rel=1e-6), step


@pytest.mark.parametrize("name", TAUS)
def test_recipe_has_the_published_taus(name):
    settings, length = recipe(name)
    ema = settings["target_ema_fn"](
        total_steps=length.total_steps, batch_size=length.batch_size
    )
    for step, expected in TAUS[name].items():
        assert float(ema.tau(step)) == pytest.approx(expected, abs=1e-14), step


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_follows_its_reference_where_the_two_differ(name):
    bindings = all_bindings(ROOT / "gin/pretrain" / f"{name}.gin")
    deepmind = name.startswith("deepmind_")
    style = "deepmind" if deepmind else "mmselfsup"
    semantics = "deepmind" if deepmind else "torchvision"
    expected = {
        "BYOL.hidden_units": 4096,
        "BYOL.output_units": 256,
        "BYOL.head_initializer": style,
        "BYOL.target_init": "random" if deepmind else "copy",
        "resnet50.initializer": style,
        "resnet50.padding": "same" if deepmind else "torch",
        "LARS.form": style,
        "train.last_batch": "carry" if deepmind else "pad",
        "RandomResizedCrop.semantics": semantics,
        "ColorJitter.semantics": semantics,
        "GaussianBlur.semantics": semantics,
        "Solarize.threshold": 0.5 if deepmind else 128 / 255,
    }
    assert {key: bindings[key] for key in expected} == expected
    half = "mixed_float16" if "accum2-" in name else None
    assert bindings.get("train.precision") == half
    assert ("LARS.exclude" in bindings) == (not deepmind)


def test_deepmind_recipe_has_the_published_parameter_counts():
    model, optimizer = built("deepmind_1000e")
    counts = [
        sum(int(tf.size(v)) for v in part.trainable_variables)
        for part in (model.online.backbone, model.online.projector, model.predictor)
    ]
    assert counts == [23_508_032, 9_449_472, 2_109_440]
    assert adapted(model, optimizer) == 57


def test_mmselfsup_recipe_adapts_the_four_shortcut_gammas_too():
    overrides = ("resnet50.width = 0.0625", "BYOL.hidden_units = 8")
    assert adapted(*built("mmselfsup_16xb256-coslr-200e", *overrides)) == 61


def built(name, *overrides):
    settings, _ = recipe(name, *overrides)
    model = settings["model_fn"](settings["backbone_fn"](channels=3))
    return model, settings["optimizer_fn"](learning_rate=1.0)


def adapted(model, optimizer):
    """The number of tensors that LARS adapts."""
    return sum(not optimizer.is_excluded(v) for v in model.trainable_variables)


@pytest.mark.parametrize("path", files("views"))
def test_views_are_images_of_the_bound_size(path):
    parse(path)
    bindings = dict(statements(path)[0])
    size = bindings["RandomResizedCrop.size"]
    channels = {"grey": 1, "satellite": 5}.get(path.stem.partition("_")[0], 3)
    views = gin.get_bindings("train")["views_fn"]()
    assert views.stateless
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 36, channels), dtype=np.uint8)
    uniforms = rng.random((2, views.draws), dtype=np.float32)
    for view in views(images, uniforms):
        assert view.shape == (2, size, size, channels)
        assert 0.0 <= np.min(view) < np.max(view) <= 1.0


@pytest.fixture(scope="module")
def five_stages(tmp_path_factory):
    return export_five_stages(tmp_path_factory.mktemp("export"))


@pytest.mark.parametrize("path", CLASSIFICATION)
def test_benchmark_runs_and_uses_every_binding(
    path, five_stages, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # "absent" is a relative path
    monkeypatch.syspath_prepend(path.parent)  # for what the recipe imports
    parse_benchmark(path)
    benchmark(five_stages, str(tmp_path))
    # Fine-tuning reads images, but the command line still binds the folder of features.
    # `SHORT` also binds parameters that the recipe's own scopes override.
    hidden = {"image_folder.path", "finetune.epochs", "finetune.base_learning_rates"}
    spare = {"extract_all.cache_dir", *hidden}
    assert set(operative.unused_bindings(with_included=True)) <= spare
    assert list((tmp_path / "benchmarks").glob("*.json"))


def test_knn_uses_the_splits_of_the_protocol():
    parse(ROOT / "gin/benchmarks/knn.gin")
    assert gin.query_parameter("train/tfds_dataset.split") == "train"
    assert gin.query_parameter("validation/tfds_dataset.split") == "validation"
    assert gin.query_parameter("tfds_dataset.name") == "imagenet2012"
    assert gin.query_parameter("knn.k") == (10, 20, 100, 200)
    assert gin.query_parameter("knn.temperature") == 0.07


@pytest.mark.slow
def test_dry_run_of_the_command_line_prints_the_plan():
    file = "--gin_file=gin/pretrain/quickstart.gin"
    done = command_line("train", "--dry_run", file)
    assert done.returncode == 0, done.stderr
    rows = [line.strip() for line in done.stdout.splitlines()]
    for name in ("steps", "learning rate", "tau"):
        assert any(row.startswith(f"{name} ") for row in rows), name
