"""`python -m byol_keras.benchmarks`: files, table, reuse of results, errors."""

import json
import tempfile

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.benchmarks.__main__ import benchmark
from byol_keras.config import parse
from byol_keras.export import export_backbone, load_backbone
from byol_keras.export.digest import backbone_digest
from byol_keras.export.export_network import export_network
from byol_keras.export.model_card import rewrite_scores, rewrite_table, write_card
from byol_keras.report.page import write_page
from byol_keras.report.stored_run import read_run
from byol_keras.results import records
from byol_keras.runtime import atomic_files, cli

from support import ROOT
from support.processes import command_line
from support.runs import run, write_run

RECIPE = ROOT / "gin/benchmarks/knn_fashion_mnist_small.gin"
SMALL = (
    "train/fashion_mnist_small.split = 'train[:60]'",
    "test/fashion_mnist_small.split = 'test[:20]'",
    "knn.k = (1, 20)",
)

TOY = "benchmark.benchmarks = [@toy]"
CALLS = []


@gin.register(module="tests")
def toy(backbone, images=None, offset=0.0, helper=None):
    """The sum of the weights, and a trace of the call."""
    CALLS.append("toy")
    if not backbone.weights:
        raise ValueError("backbone must have weights. Received: none")
    total = sum(float(np.sum(weight.numpy())) for weight in backbone.weights)
    return {"toy/sum": total + offset + (helper() if helper else 0.0)}


@gin.register(module="tests")
def seeded_toy(backbone, offset=0.0, seed=0):
    CALLS.append(f"seeded_toy {seed}")
    return {"seeded_toy/value": seed**2 + offset}


@gin.register(module="tests")
def mistaken(backbone, rate=gin.REQUIRED):
    CALLS.append("mistaken")
    raise ValueError(f"mistaken.rate must be positive. Received: {rate}")


@gin.register(module="tests")
def broken(backbone):
    raise ZeroDivisionError("a bug")


@gin.register(module="tests")
def toy_images(first=0):
    return data.arrays(np.full((2, 4, 4, 1), first, np.uint8), np.arange(2))


@gin.register(module="tests")
def toy_helper(value=1.0):
    return value


@gin.register(module="tests")
def reading(backbone, images):
    """Reads all images, some of which may be broken."""
    pixels = [float(x["image"][0, 0, 0]) for x in images.ordered()]
    return {"reading/sum": sum(pixels)}


@gin.register(module="tests")
def labels_only(backbone, images):
    return {"labels_only/count": len(images.labels())}


@gin.configurable(module="tests")
def everywhere(value=1.0):
    return value


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture(autouse=True)
def no_bindings():
    gin.clear_config()
    yield
    gin.clear_config()


def tiny_backbone(channels):
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    export_backbone(tiny_backbone(channels=1), folder / "export")
    return folder


def in_process(run_folder, *bindings, model_dir=None):
    parse.parse_gin([str(RECIPE)], [*SMALL, *bindings])
    benchmark(str(run_folder), model_dir)


def toys(run_folder, model_dir, *bindings):
    """Runs what the bindings name, and returns the calls that it took."""
    gin.clear_config()
    CALLS.clear()
    gin.parse_config_files_and_bindings([], list(bindings))
    benchmark(str(run_folder), model_dir)
    return list(CALLS)


def stored(model_dir, name):
    return json.loads((model_dir / f"benchmarks/{name}.json").read_text())


def error_line(capsys, run, *arguments, code=cli.EXIT_USER_ERROR, **keywords):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, **keywords)
    assert stop.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def done(run_folder):
    """The command that a user types, ended."""
    return command_line(
        "benchmarks",
        f"--gin_file={RECIPE}",
        f"--model_dir={run_folder}",
        *(f"--gin_param={binding}" for binding in SMALL),
    )


def test_command_writes_the_results_and_prints_them(done, run_folder):
    assert done.returncode == 0, done.stderr
    record = stored(run_folder, "knn")
    assert record["backbone"] == str(run_folder)
    assert "knn.k = (1, 20)" in record["config"]
    assert list(record["results"]) == ["raw_pixels", "random_init", "trained"]
    for values in record["results"].values():
        assert {"knn/top1_k1", "knn/top5_k1", "knn/top1_k20"} < set(values)
        assert all(0.0 <= value <= 100.0 for value in values.values())
    lines = done.stdout.replace("│", " ").splitlines()
    (row,) = [line for line in lines if "knn/top1_k20" in line]
    top1 = [values["knn/top1_k20"] for values in record["results"].values()]
    assert row.split()[1:] == [f"{value:.2f}" for value in top1]
    assert "retracing" not in done.stderr


def test_command_ends_with_the_table_and_writes_it(done, run_folder):
    text = (run_folder / "benchmarks/table.md").read_text()
    assert done.stdout.endswith(f"\n\n{text}")
    record = stored(run_folder, "knn")["results"]["trained"]
    header, _, _, _, trained, published, _ = text.splitlines()
    assert header == "| percent | kNN k=1 | kNN k=20 |"
    figures = (record[f"knn/top1_k{k}"] for k in (1, 20))
    assert trained == "| trained | " + " | ".join(f"{x:.2f}" for x in figures) + " |"
    assert published.startswith("| published: ResNet-50, ImageNet-1k, 200 epochs, ")
    assert published.endswith(" | - | 64.2 |")


def test_command_caches_features_in_the_run_folder(done, run_folder):
    # Two splits, each with features of three models and one file of labels.
    assert len(list((run_folder / "benchmarks/features").glob("*.npy"))) == 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([f"--gin_file={RECIPE}"], "--model_dir or --backbone must name a backbone."),
        (
            ["--gin_file=gin/absent.gin", "--model_dir=absent"],
            "--gin_file must exist.",
        ),
    ],
)
def test_command_ends_with_one_error_line_and_code_2(arguments, expected):
    done = command_line("benchmarks", *arguments)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {expected} Received: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_random_init_changes_with_the_seed_and_raw_pixels_do_not(run_folder, tmp_path):
    in_process(run_folder, model_dir=tmp_path)
    first = json.loads((tmp_path / "benchmarks/knn.json").read_text())["results"]
    gin.clear_config()
    in_process(run_folder, "benchmark.seed = 1", model_dir=tmp_path)
    second = json.loads((tmp_path / "benchmarks/knn.json").read_text())["results"]
    assert first["raw_pixels"] == second["raw_pixels"]
    assert first["trained"] == second["trained"]
    assert first["random_init"] != second["random_init"]
    assert first["random_init"] != first["trained"]


def test_without_a_run_folder_nothing_is_written(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_process(run_folder)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_a_backbone_is_one_line(tmp_path, capsys):
    assert "must hold a backbone" in error_line(capsys, in_process, tmp_path)


def test_unknown_baseline_is_one_line(run_folder, capsys):
    line = error_line(
        capsys, in_process, run_folder, "benchmark.baselines = ['supervised']"
    )
    assert line.startswith("error: benchmark.baselines must be a list of names among")


def test_benchmarks_must_be_functions(run_folder, capsys):
    line = error_line(capsys, in_process, run_folder, "benchmark.benchmarks = 'knn'")
    assert line.startswith("error: benchmark.benchmarks must be a list of functions")


def refuse(*_, **__):
    raise OSError(30, "Read-only file system")


def test_results_are_printed_where_they_cannot_be_stored(
    run_folder, tmp_path, capsys, monkeypatch
):
    toys(run_folder, tmp_path, TOY)
    before = (tmp_path / "benchmarks/toy.json").read_text()
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(atomic_files, "write_whole", refuse)
    both = "benchmark.benchmarks = [@toy, @seeded_toy]"
    line = error_line(capsys, toys, run_folder, tmp_path, both)
    assert line == (
        "error: model_dir must be a folder that can be written, and results are only "
        f"printed. Received: {tmp_path}/benchmarks: [Errno 30] Read-only file system"
    )
    # The stored result is used again.
    assert CALLS == ["seeded_toy 0"]
    assert (tmp_path / "benchmarks/toy.json").read_text() == before
    assert not (tmp_path / "benchmarks/seeded_toy.json").exists()


def test_full_disk_ends_no_other_benchmark(run_folder, tmp_path, capsys, monkeypatch):
    def write(folder, name, record):
        if name == "toy":
            raise OSError(28, "No space left on device")
        return stored_by(folder, name, record)

    stored_by = records.write
    monkeypatch.setattr(records, "write", write)
    both = "benchmark.benchmarks = [@toy, @seeded_toy]"
    line = error_line(capsys, toys, run_folder, tmp_path, both, code=1)
    assert line == "error: toy: [Errno 28] No space left on device"
    assert stored(tmp_path, "seeded_toy")["results"]["trained"]
    # The result that could not be stored is in the table.
    header = (tmp_path / "benchmarks/table.md").read_text().splitlines()[0]
    assert header == "| percent | toy/sum | seeded_toy/value |"


def test_backbone_of_other_channels_is_one_line(tmp_path, capsys):
    export_backbone(tiny_backbone(channels=3), tmp_path)
    line = error_line(capsys, in_process, tmp_path, "benchmark.baselines = []")
    assert line.startswith("error: knn: data must have the backbone's 3 channels.")


def test_second_run_does_only_the_missing_benchmarks(run_folder, tmp_path, capsys):
    one = "benchmark.benchmarks = [@toy]"
    two = "benchmark.benchmarks = [@toy, @seeded_toy]"
    assert toys(run_folder, tmp_path, one) == ["toy"]
    first = stored(tmp_path, "toy")
    assert toys(run_folder, tmp_path, two) == ["seeded_toy 0"]
    assert toys(run_folder, tmp_path, two) == []
    assert stored(tmp_path, "toy") == first
    shown = capsys.readouterr().out
    assert f"toy: stored in {tmp_path / 'benchmarks/toy.json'}" in shown
    assert "runs again" not in shown


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (("toy.offset = 2.0",), "bindings"),
        (("toy.images = @b/toy_images()",), "bindings, data"),
        (("a/toy_images.first = 2",), "bindings, data"),
        (("toy_helper.value = 2.0",), "bindings"),
        (("everywhere.value = 2.0",), "bindings"),
        (("VALUE = 2",), "bindings"),
        (("benchmark.baselines = ['raw_pixels']",), "baselines"),
        (("benchmark.seed = 1",), "seeds"),
        (("benchmark.seeds = 2",), "seeds"),
    ],
)
def test_benchmark_with_changed_settings_runs_again(
    changed, what, run_folder, tmp_path, capsys
):
    settings = (
        "benchmark.benchmarks = [@toy]",
        "toy.images = @a/toy_images()",
        "a/toy_images.first = 1",
        "b/toy_images.first = %VALUE",
        "toy.helper = @toy_helper",
        "VALUE = 5",
    )
    assert toys(run_folder, tmp_path, *settings) == ["toy"]
    assert "toy" in toys(run_folder, tmp_path, *settings, *changed)
    assert f"toy runs again: other {what} than stored" in capsys.readouterr().out


def test_settings_of_another_benchmark_do_not_invalidate_a_result(run_folder, tmp_path):
    settings = (
        "benchmark.benchmarks = {'first': @one/toy, 'second': @two/toy}",
        "one/toy.images = @one/toy_images()",
        "two/toy.images = @two/toy_images()",
        "two/toy.helper = @two/toy_helper",
    )
    changes = ("two/toy_helper.value = 2.0", "two/toy_images.first = 3")
    assert toys(run_folder, tmp_path, *settings) == ["toy", "toy"]
    before = stored(tmp_path, "first")
    assert toys(run_folder, tmp_path, *settings, *changes) == ["toy"]
    assert stored(tmp_path, "first") == before


def test_benchmark_of_other_weights_runs_again(run_folder, tmp_path, capsys):
    settings = ("benchmark.benchmarks = [@toy]",)
    toys(run_folder, tmp_path, *settings)
    export_backbone(tiny_backbone(channels=1), tmp_path / "other")
    assert toys(tmp_path / "other", tmp_path, *settings) == ["toy"]
    assert "toy runs again: other backbone than stored" in capsys.readouterr().out


@pytest.fixture
def trained_run(tmp_path):
    """A run folder with an export, its card, its report, and a result of `toy`."""
    folder = write_run(tmp_path / "run")
    export_backbone(tiny_backbone(channels=1), folder / "export")
    write_card(folder, folder / "export", "BYOL", {})
    (folder / "benchmarks/knn.json").unlink()
    assert toys(folder, str(folder), TOY) == ["toy"]
    write_page([folder], folder / "report.html")
    return folder


def shown(folder):
    """Card, table and records of a run, with the scores that they show."""
    found = {name: x["results"] for name, x in read_run(folder).records.items()}
    files = (folder / "export/MODEL_CARD.md", folder / "benchmarks/table.md")
    return [*(path.read_text() for path in files), json.dumps(found)]


def score_of(path):
    return json.loads(path.read_text())["results"]["trained"]["toy/sum"]


def test_results_of_another_backbone_are_stored_apart(trained_run, tmp_path, capsys):
    before = shown(trained_run)
    record = (trained_run / "benchmarks/toy.json").read_text()
    own = score_of(trained_run / "benchmarks/toy.json")
    assert all(f"{own:.2f}" in text for text in before[:2])
    other = tmp_path / "other"
    export_backbone(tiny_backbone(channels=1), other)
    assert toys(other, str(trained_run), TOY) == ["toy"]
    assert (trained_run / "benchmarks/toy.json").read_text() == record
    assert shown(trained_run) == before
    (folder,) = (trained_run / "benchmarks").glob("backbone_*")
    digest = backbone_digest(load_backbone(other))
    assert folder.name == f"backbone_{digest[:12]}"
    assert sorted(path.name for path in folder.iterdir()) == ["table.md", "toy.json"]
    assert score_of(folder / "toy.json") != own
    line = f"the backbone is not that of {trained_run}: its results are in {folder}"
    assert line in capsys.readouterr().out
    # Neither of the two invalidates the other.
    assert toys(other, str(trained_run), TOY) == []
    assert toys(trained_run, str(trained_run), TOY) == []
    page = (trained_run / "report.html").read_text()
    assert page.index("Benchmarks of other weights") < page.index(digest[:12])


def test_later_export_has_the_scores_of_its_own_weights_only(trained_run, tmp_path):
    own = score_of(trained_run / "benchmarks/toy.json")
    export_backbone(tiny_backbone(channels=1), tmp_path / "other")
    toys(tmp_path / "other", str(trained_run), TOY)
    (path,) = trained_run.glob("benchmarks/backbone_*/toy.json")
    folder = export_network(trained_run, "keras", "online", "backbone", 24)
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"| toy | toy/sum | {own:.2f} |" in card
    assert f"{score_of(path):.2f}" not in card


@pytest.mark.slow
def test_score_leaves_what_shows_it_when_training_continues(tmp_path):
    folder = tmp_path / "run"
    reported = "train.report_fn = @Report"
    run(folder, "train.epochs = 2", reported)
    toys(folder, str(folder), TOY)
    own = f"{score_of(folder / 'benchmarks/toy.json'):.2f}"
    assert all(f"{own} |" in text for text in shown(folder)[:2])
    assert 'id="benchmarks"' in (folder / "report.html").read_text()
    run(folder, "train.epochs = 3", reported, allow_config_change=True)
    assert not any(own in text for text in shown(folder))
    page = (folder / "report.html").read_text()
    assert 'id="benchmarks"' not in page
    assert 'id="others"' in page
    assert "Finished after 7 steps" in page
    toys(folder, str(folder), TOY)
    page = (folder / "report.html").read_text()
    assert 'id="benchmarks"' in page
    assert 'id="others"' not in page


def test_another_backbone_has_no_configuration_of_the_run(trained_run, tmp_path):
    export_backbone(tiny_backbone(channels=1), tmp_path / "other")
    toys(tmp_path / "other", str(trained_run), TOY)
    (path,) = trained_run.glob("benchmarks/backbone_*/toy.json")
    assert "training_config" not in json.loads(path.read_text())
    assert "training_config" in stored(trained_run, "toy")


@pytest.mark.parametrize("name", ["backbone.keras", "saved_model"])
def test_exported_files_of_the_run_are_its_backbone(name, trained_run):
    toys(trained_run / "export" / name, str(trained_run), TOY)
    assert not list(trained_run.glob("benchmarks/backbone_*"))
    assert [*read_run(trained_run).records] == ["toy"]
    score = score_of(trained_run / "benchmarks/toy.json")
    assert f"| {score:.2f} |" in (trained_run / "export/MODEL_CARD.md").read_text()


def test_scores_of_an_earlier_export_are_not_shown_as_those_of_a_later(trained_run):
    export_backbone(tiny_backbone(channels=1), trained_run / "export")
    own = score_of(trained_run / "benchmarks/toy.json")
    rewrite_scores(trained_run)
    rewrite_table(trained_run)
    assert not any(f"{own:.2f}" in text for text in shown(trained_run))
    assert [name for name, _ in read_run(trained_run).others] == ["toy"]
    assert toys(trained_run, str(trained_run), TOY) == ["toy"]
    later = score_of(trained_run / "benchmarks/toy.json")
    assert all(f"{later:.2f}" in text for text in shown(trained_run)[:2])


def test_run_that_has_exported_nothing_has_no_results_of_a_backbone(
    run_folder, tmp_path
):
    (tmp_path / "config.gin").write_text("train.epochs = 3\n")
    toys(run_folder, tmp_path, TOY)
    assert not (tmp_path / "benchmarks/toy.json").exists()
    assert len(list(tmp_path.glob("benchmarks/backbone_*/toy.json"))) == 1


def test_same_weights_from_another_path_reuse_the_result(run_folder, tmp_path):
    settings = ("benchmark.benchmarks = [@toy]",)
    toys(run_folder, tmp_path, *settings)
    copy = tmp_path / "copy.keras"
    copy.write_bytes((run_folder / "export/backbone.keras").read_bytes())
    assert toys(copy, tmp_path, *settings) == []


def test_benchmark_on_changed_images_runs_again(
    run_folder, tmp_path, monkeypatch, capsys
):
    settings = ("benchmark.benchmarks = [@toy]", "toy.images = @toy_images()")
    toys(run_folder, tmp_path, *settings)
    monkeypatch.setattr(data.ImageData, "digest", lambda self: "other")
    assert toys(run_folder, tmp_path, *settings) == ["toy"]
    assert "toy runs again: other data than stored" in capsys.readouterr().out


def test_names_of_a_dict_name_the_files_and_scopes_separate_the_uses(
    run_folder, tmp_path
):
    toys(
        run_folder,
        tmp_path,
        "benchmark.benchmarks = {'plain': @toy, 'shifted': @far/toy}",
        "far/toy.offset = 100.0",
    )
    plain, shifted = (
        stored(tmp_path, name)["results"]["trained"] for name in ("plain", "shifted")
    )
    assert shifted["toy/sum"] == pytest.approx(plain["toy/sum"] + 100.0)
    header = (tmp_path / "benchmarks/table.md").read_text().splitlines()[0]
    assert header == "| percent | toy/sum (plain) | toy/sum (shifted) |"


def test_benchmarks_under_a_macro_are_found(run_folder, tmp_path):
    called = toys(
        run_folder, tmp_path, "benchmark.benchmarks = %SUITE", "SUITE = [@far/toy]"
    )
    assert called == ["toy"]


@pytest.mark.parametrize(
    ("benchmarks", "expected"),
    [
        ("[@toy, @far/toy]", "must have a different name for each function;"),
        ("{'a/b': @toy}", "must have names that can name a file."),
        ("[]", "must be a list of functions"),
        ("{'a': 3}", "must be a list of functions"),
    ],
)
def test_impossible_names_are_one_line(
    benchmarks, expected, run_folder, tmp_path, capsys
):
    binding = f"benchmark.benchmarks = {benchmarks}"
    line = error_line(capsys, toys, run_folder, tmp_path, binding)
    assert line.startswith(f"error: benchmark.benchmarks {expected}")
    assert " Received: " in line


@pytest.mark.parametrize(
    ("binding", "rule"),
    [
        ("benchmark.seeds = 0", "a positive int"),
        ("benchmark.seed = 'a'", "an int of at least 0"),
    ],
)
def test_impossible_seeds_are_one_line(binding, rule, run_folder, capsys):
    line = error_line(
        capsys, toys, run_folder, None, "benchmark.benchmarks = [@toy]", binding
    )
    assert line.startswith(f"error: {binding.partition(' ')[0]} must be {rule}.")


def test_seeds_of_a_function_that_takes_one(run_folder, tmp_path):
    called = toys(
        run_folder,
        tmp_path,
        "benchmark.benchmarks = [@toy, @seeded_toy]",
        "benchmark.seed = 1",
        "benchmark.seeds = 3",
    )
    assert called == ["toy", "seeded_toy 1", "seeded_toy 2", "seeded_toy 3"]
    record = stored(tmp_path, "seeded_toy")
    values = [{"seeded_toy/value": float(seed**2)} for seed in (1, 2, 3)]
    assert record["seeds"] == [1, 2, 3]
    assert record["per_seed"] == {"trained": values}
    mean, half_width = (
        record[kind]["trained"]["seeded_toy/value"] for kind in ("results", "interval")
    )
    # Of 1, 4, 9: s² = 49 / 3, and t of two degrees is 4.302653.
    assert mean == pytest.approx(14 / 3)
    assert half_width == pytest.approx(4.302653 * (49 / 9) ** 0.5, rel=1e-6)
    assert "| trained | " in (tmp_path / "benchmarks/table.md").read_text()
    assert "4.67 ± 10.04 |" in (tmp_path / "benchmarks/table.md").read_text()


def test_bound_seed_of_a_benchmark_is_its_first_seed(run_folder, tmp_path):
    called = toys(
        run_folder,
        tmp_path,
        "benchmark.benchmarks = [@seeded_toy]",
        "benchmark.seeds = 2",
        "seeded_toy.seed = 7",
    )
    assert called == ["seeded_toy 7", "seeded_toy 8"]


def folder_with_broken_images(folder, broken=(17, 19)):
    folder.mkdir(parents=True)
    for number in range(20):
        image = np.full((2, 3, 1), number, np.uint8)
        encoded = b"" if number in broken else tf.io.encode_png(image).numpy()
        (folder / f"{number:02}.png").write_bytes(encoded)
    return (
        "benchmark.benchmarks = [@reading]",
        "reading.images = @image_folder()",
        f"image_folder.path = '{folder}'",
    )


def test_images_that_cannot_be_read_are_left_out_and_listed(run_folder, tmp_path):
    settings = folder_with_broken_images(tmp_path / "images")
    toys(run_folder, tmp_path, *settings, "image_folder.max_bad_share = 0.1")
    (values,) = stored(tmp_path, "reading")["per_seed"]["trained"]
    assert values["reading/sum"] == sum(range(20)) - 17 - 19
    lines = (tmp_path / "bad_images.txt").read_text().splitlines()
    assert sorted(line.partition("\t")[0][-6:] for line in lines) == [
        "17.png",
        "19.png",
    ]


def test_record_has_the_number_of_images_left_out(run_folder, tmp_path, capsys):
    folder_with_broken_images(tmp_path / "images" / "class")
    folder_with_broken_images(tmp_path / "images" / "other")
    toys(
        run_folder,
        tmp_path,
        "benchmark.benchmarks = [@labels_only]",
        "labels_only.images = @image_folder()",
        f"image_folder.path = '{tmp_path / 'images'}'",
        "image_folder.max_bad_share = 0.1",
    )
    record = stored(tmp_path, "labels_only")
    assert record["results"]["trained"]["labels_only/count"] == 36
    assert record["left_out_images"] == {f"images in {tmp_path / 'images'}": 4}
    assert "could not be read and were left out" in capsys.readouterr().out


def test_too_many_images_that_cannot_be_read_are_one_line(run_folder, tmp_path, capsys):
    # None of the images that determine the number of channels.
    settings = folder_with_broken_images(tmp_path / "images", broken=(17,))
    with pytest.raises(SystemExit) as stop:
        toys(run_folder, tmp_path, *settings, "image_folder.max_bad_share = 0.0")
    assert stop.value.code == cli.EXIT_USER_ERROR
    printed = capsys.readouterr().err.splitlines()
    (line,) = [line for line in printed if line.startswith("error:")]
    assert line.startswith("error: reading: images must be readable, all but a share ")


def test_failing_benchmark_does_not_lose_the_others(run_folder, tmp_path, capsys):
    settings = (
        "benchmark.benchmarks = [@mistaken, @toy]",
        "mistaken.rate = -1",
        "benchmark.baselines = ['random_init']",
    )
    line = error_line(capsys, toys, run_folder, tmp_path, *settings)
    assert line == "error: mistaken: mistaken.rate must be positive. Received: -1"
    assert CALLS == ["mistaken", "toy", "toy"]
    files = {path.name for path in (tmp_path / "benchmarks").iterdir()}
    assert files == {"toy.json", "table.md"}
    assert "toy/sum" in (tmp_path / "benchmarks/table.md").read_text()


def test_benchmark_without_its_bindings_is_one_line(run_folder, capsys):
    settings = ("benchmark.benchmarks = [@mistaken]",)
    line = error_line(capsys, toys, run_folder, None, *settings)
    assert line == "error: mistaken: rate must be bound. Received: none"
    assert CALLS == []


def test_data_that_cannot_be_loaded_are_one_line(run_folder, capsys):
    settings = (
        "benchmark.benchmarks = [@toy]",
        "toy.images = @toy_images()",
        "toy_images.first = 'a'",
    )
    line = error_line(capsys, toys, run_folder, None, *settings)
    assert line.startswith("error: toy: ")
    assert CALLS == []


def test_bug_keeps_its_traceback_and_the_finished_results(run_folder, tmp_path):
    with pytest.raises(ZeroDivisionError, match="a bug"):
        toys(run_folder, tmp_path, "benchmark.benchmarks = [@toy, @broken]")
    assert "toy/sum" in stored(tmp_path, "toy")["results"]["trained"]


def test_missing_baseline_is_a_dash_and_a_reason(run_folder, tmp_path, capsys):
    settings = (
        "benchmark.benchmarks = {'a': @toy, 'b': @b/toy}",
        "benchmark.baselines = ['raw_pixels']",
    )
    toys(run_folder, tmp_path, *settings)
    assert stored(tmp_path, "a")["missing"] == {
        "raw_pixels": "backbone must have weights. Received: none"
    }
    text = (tmp_path / "benchmarks/table.md").read_text()
    assert "| raw_pixels | - | - |" in text
    reason = "- raw_pixels, a, b: backbone must have weights. Received: none"
    assert text.splitlines()[-1] == reason
    assert text in capsys.readouterr().out


def test_features_are_cached_in_the_bound_folder(run_folder, tmp_path):
    own = f"extract_all.cache_dir = '{tmp_path / 'own'}'"
    in_process(run_folder, own, model_dir=tmp_path)
    assert list((tmp_path / "own").glob("*.npy"))
    assert not (tmp_path / "benchmarks/features").exists()
    gin.clear_config()
    in_process(run_folder, model_dir=tmp_path)
    assert not (tmp_path / "benchmarks/features").exists(), "stored result not found"


def test_small_suite_decays_weights_as_the_protocols_do():
    parse.parse_gin([str(ROOT / "gin/benchmarks/suite_small.gin")], [])
    decays = {}
    for reference in gin.query_parameter("benchmark.benchmarks").values():
        with gin.config_scope(reference.scopes):
            bound = gin.get_bindings(reference.selector)
            if "optimizer_fn" in bound:
                optimizer = bound["optimizer_fn"](learning_rate=1.0)
                decays[str(reference)] = optimizer.get_config()["weight_decay"]
    assert decays == {
        "@linear": 0.0,
        "@linear_features": 1e-4,
        "@percent10/finetune": 0.0,
    }


def test_imagenet_suite_jitters_colors_only_for_linear_features():
    parse.parse_gin([str(ROOT / "gin/benchmarks/suite_imagenet.gin")], [])
    layers = {}
    for scope in ("plain", "jittered"):
        with gin.config_scope(scope):
            found = gin.get_bindings("AugmentedView")["layers"]
        layers[scope] = [type(layer).__name__ for layer in found]
    assert layers == {
        "plain": ["RandomResizedCrop", "RandomHorizontalFlip"],
        "jittered": [*layers["plain"], "ColorJitter", "Lighting"],
    }
    views = {
        name: str(gin.query_parameter(f"{name}.train_view"))
        for name in ("linear", "linear_features")
    }
    assert views == {
        "linear": "@plain/AugmentedView()",
        "linear_features": "@jittered/AugmentedView()",
    }
