"""The report callback, alone and in runs of the command line."""

import json
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import byol_keras as bk
from byol_keras import data
from byol_keras.report import (
    Report,
    callback,
    class_scores,
    page,
    pictures,
    representation,
)

from support.runs import FASHION_MNIST, ROOT, metrics, run, untimed_metrics, write_run
from support.runs import pictures as stored_pictures

REPORTED = ("train.report_fn = @Report",)
SCORED = (
    "train.callbacks = [@BenchmarkEachEpochs()]",
    "BenchmarkEachEpochs.benchmarks = [@knn]",
    "knn.train_data = @fashion_mnist_small()",
    "knn.test_data = @test/fashion_mnist_small()",
    "test/fashion_mnist_small.split = 'test[:20]'",
    "knn.k = (3,)",
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    run(folder, *SCORED, *REPORTED)
    return folder


def test_run_writes_a_report_with_all_sections(scored):
    text = (scored / "report.html").read_text()
    assert "Finished after 7 steps" in text
    last = metrics(scored)[-1]
    assert f"{last['knn/top1_k3']:.4g}" in text
    for section in ("augmentations", "neighbours", "map", "run"):
        assert f'id="{section}"' in text
    assert 'id="activations"' not in text  # the backbone has no feature5
    assert "Among 80 images" in text


def test_environment_has_the_start_of_the_run(scored):
    (start,) = json.loads((scored / "environment.json").read_text())
    assert start["total_steps"] == 7
    assert start["step"] == 0
    assert start["plan"]["precision"] == "float32"
    assert set(start["versions"]) >= {"python", "tensorflow", "keras"}
    assert start["command"].startswith("python ")


@pytest.mark.slow
def test_report_has_no_effect_on_training(scored, tmp_path):
    run(tmp_path, *SCORED)
    assert untimed_metrics(tmp_path) == untimed_metrics(scored)
    assert not (tmp_path / "report.html").exists()
    weights = [bk.load_backbone(f).get_weights() for f in (tmp_path, scored)]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_report_of_two_devices_has_the_same_sections(tmp_path, caplog):
    run(tmp_path, *REPORTED, strategy="mirrored")
    assert "could not be made" not in caplog.text
    text = (tmp_path / "report.html").read_text()
    for section in ("augmentations", "neighbours", "map"):
        assert f'id="{section}"' in text


@pytest.mark.slow
def test_resumed_run_keeps_its_pictures_and_lists_both_starts(tmp_path):
    stop = ("train.callbacks = [@StopAfter]", "StopAfter.steps = 3")
    with pytest.raises(SystemExit):
        run(tmp_path, *stop, *REPORTED)
    text = (tmp_path / "report.html").read_text()
    assert "Not finished: at step 2 of 7" in text
    run(tmp_path, *REPORTED)
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, 3]
    assert "resumed 1 time" in (tmp_path / "report.html").read_text()


def test_existing_page_is_rewritten(tmp_path, caplog):
    folder = write_run(tmp_path / "run")
    callback.rewrite_page(folder)
    assert not (folder / "report.html").exists()
    (folder / "report.html").write_text("older")
    callback.rewrite_page(folder)
    assert "81.55" in (folder / "report.html").read_text()
    (tmp_path / "report.html").write_text("of no run")
    callback.rewrite_page(tmp_path)
    assert "report could not be made: ValueError: model_dir must be" in caplog.text


def small_model():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(8, 3, strides=2)(images)
    outputs = {"feature5": x, "avgpool": keras.layers.GlobalAveragePooling2D()(x)}
    return bk.BYOL(keras.Model(images, outputs), 16, 8)


def small_report(folder):
    """A report of a run of 32 images, the folder of which has a configuration only."""
    (folder / "config.gin").write_text("")
    layers = [bk.RandomResizedCrop(size=28, area=(0.3, 1.0))]
    source = data.fashion_mnist_small("train[:32]")
    report = Report(folder, source, bk.TwoViews(layers, layers))
    model = small_model()
    model.compile(keras.optimizers.SGD(0.05))
    report.set_model(model)
    return report


def broken(*_, **__):
    raise RuntimeError("no room\nfor this")


FAILING = {
    (page, "write_page"): "report",
    (pictures, "augmentation_sheet"): "augmentation sheet",
    (representation, "take_sample"): "pictures of the representation",
}


def test_report_that_fails_does_not_end_a_run(monkeypatch, tmp_path, caplog):
    for place in FAILING:
        monkeypatch.setattr(*place, broken)
    run(tmp_path, *REPORTED)
    assert (tmp_path / "export/backbone.keras").exists()
    assert not (tmp_path / "report.html").exists()
    for what in FAILING.values():
        assert f"{what} could not be made: RuntimeError: no room" in caplog.text
    assert "for this" not in caplog.text
    # The sheet would be the same at the end of every epoch.
    assert caplog.text.count("augmentation sheet") == 1


@pytest.mark.parametrize("place", [*FAILING][1:], ids=lambda place: place[1])
def test_page_lacks_only_the_part_that_fails(monkeypatch, tmp_path, caplog, place):
    monkeypatch.setattr(*place, broken)
    report = small_report(tmp_path)
    report.on_train_begin()
    report.on_train_end()
    assert FAILING[place] in caplog.text
    text = (tmp_path / "report.html").read_text()
    assert ('id="augmentations"' in text) == (place[0] is not pictures)
    assert ('id="neighbours"' in text) == (place[0] is pictures)


def test_pictures_of_an_earlier_step_do_not_stay_when_later_ones_fail(
    monkeypatch, tmp_path, caplog
):
    (tmp_path / "report_pictures.json").write_text(json.dumps(stored_pictures()))
    monkeypatch.setattr(pictures, "gallery", broken)
    report = small_report(tmp_path)
    report.on_train_begin()
    report.on_train_end()
    assert "pictures of the representation could not be made" in caplog.text
    kept = json.loads((tmp_path / "report_pictures.json").read_text())
    assert kept["step"] == 0
    assert {"spectrum", "activations"} <= {*kept}
    assert not {"neighbours", "map"} & {*kept}


def test_pip_command_is_printed_once_without_the_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(callback, "LIBRARIES", ("no_such_library", "json"))
    report = small_report(tmp_path)
    report.on_train_begin()
    report.on_epoch_end(0)
    report.on_train_end()
    report.write()
    line = 'no report without no_such_library: pip install "byol-keras[report]"\n'
    assert capsys.readouterr().out == line
    assert not (tmp_path / "report.html").exists()


def test_training_needs_no_package_of_the_report():
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in callback.LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {hidden}import byol_keras.train"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- Classes --------------------------------------------------------------------------


@pytest.fixture
def affordable(monkeypatch):
    """Runs of any length are scored."""
    monkeypatch.setattr(class_scores, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(class_scores, "MOST_COST", 100.0)


def begin(report, epochs=10):
    report.views = None  # without a sheet of augmentations, which takes long
    report.set_params({"epochs": epochs})
    report.on_train_begin()


def kept(folder):
    path = folder / "report_pictures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_classes_are_scored_before_training_and_three_times(tmp_path, affordable):
    report = small_report(tmp_path)
    begin(report)
    baselines = kept(tmp_path)["classes"]["baselines"]
    assert [*baselines] == ["raw pixels", "the backbone before training"]
    assert all(0.0 <= score <= 100.0 for score in baselines.values())
    for epoch in range(10):
        report.on_epoch_end(epoch)
    found = kept(tmp_path)["classes"]
    assert found["baselines"] == baselines
    assert found["images"] == 32
    assert [part for _, part, _ in found["readings"]] == [0.2, 0.5, 1.0]
    # Nothing was trained.
    assert {score for *_, score in found["readings"]} == {
        baselines["the backbone before training"]
    }
    assert 'id="classes"' in (tmp_path / "report.html").read_text()


def test_run_below_its_baselines_prints_a_warning(
    tmp_path, monkeypatch, capsys, affordable
):
    scores = iter([80.0, 30.0, 79.0])
    monkeypatch.setattr(class_scores, "score_of_pixels", lambda found: 50.0)
    monkeypatch.setattr(class_scores, "scorer_of", lambda *_: lambda: next(scores))
    report = small_report(tmp_path)
    begin(report)
    for epoch in range(8):
        report.on_epoch_end(epoch)
    # The second reading is above the raw pixels, and near the backbone at the start.
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Not learning what separates your classes: at step 0, kNN")
    assert "is 30.0%, below 50.0% of raw pixels and 80.0% of the backbone" in line
    assert line.endswith("No simple fact about the images was read that explains it.")


def test_resumed_run_keeps_its_baselines(tmp_path, affordable):
    stored = {"images": 32, "baselines": {"raw pixels": 12.5}, "readings": []}
    for known in ({"classes": stored}, {}):
        (tmp_path / "report_pictures.json").write_text(json.dumps(known))
        report = small_report(tmp_path)
        report.model.optimizer.iterations.assign(7)
        begin(report)
        # The start of the run cannot be scored any more.
        baselines = kept(tmp_path)["classes"]["baselines"]
        assert [*baselines] == ["raw pixels"]
        assert (baselines["raw pixels"] == 12.5) == bool(known)
        report.on_epoch_end(9)
        assert kept(tmp_path)["classes"]["readings"][0][:2] == [7, 1.0]


def test_new_run_does_not_keep_the_baselines_of_an_earlier_one(tmp_path, affordable):
    stored = {"images": 32, "baselines": {"raw pixels": 0.0}, "readings": []}
    (tmp_path / "report_pictures.json").write_text(json.dumps({"classes": stored}))
    begin(small_report(tmp_path))
    assert len(kept(tmp_path)["classes"]["baselines"]) == 2


def test_data_without_labels_are_not_scored(tmp_path, affordable):
    report = small_report(tmp_path)
    object.__setattr__(report.data, "class_names", None)
    begin(report)
    report.on_epoch_end(9)
    assert "classes" not in kept(tmp_path)


def test_short_run_is_not_scored(tmp_path):
    report = small_report(tmp_path)
    begin(report)
    report.on_epoch_end(9)
    assert "classes" not in kept(tmp_path)


def test_scores_that_fail_do_not_end_a_run(tmp_path, monkeypatch, caplog, affordable):
    monkeypatch.setattr(class_scores, "score_of_pixels", broken)
    report = small_report(tmp_path)
    begin(report)
    report.on_epoch_end(9)
    assert "kNN of the classes could not be made: RuntimeError" in caplog.text
    assert (tmp_path / "report.html").exists()


# --- Time -----------------------------------------------------------------------------


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """A report with pictures that take 2 seconds, and pages that take 1/16."""
    clock = Clock()
    monkeypatch.setattr(callback, "time", clock)
    report = Report(tmp_path, data=data.fashion_mnist_small(), max_share=0.01)
    report.clock, report.pictures, report.pages = clock, [], []

    def note(places, seconds):
        places.append(clock.now - 100.0)
        clock.now += seconds

    monkeypatch.setattr(
        report, "_show_representation", lambda: note(report.pictures, 2.0)
    )
    monkeypatch.setattr(
        callback, "_write_page", lambda path: note(report.pages, 0.0625)
    )
    report.on_train_begin()
    return report


def train_epochs(report, count, seconds):
    """Trains epochs; the time of the report as a share of the training time."""
    for epoch in range(count):
        report.clock.now += seconds
        report.on_epoch_end(epoch)
    spent = 2.0 * len(report.pictures) + 0.0625 * len(report.pages)
    return spent / (count * seconds)


def test_pictures_are_made_only_within_their_share_of_the_time(timed):
    assert train_epochs(timed, 100, 20.0) <= 0.01
    assert len(timed.pages) == 100
    # The first estimate is 5 seconds.
    assert 500.0 < timed.pictures[0] < 800.0
    assert 5 <= len(timed.pictures) <= 7


def test_some_pages_of_short_epochs_are_not_written(timed):
    share = train_epochs(timed, 100, 1.0)
    assert timed.pages[0] == 1.0
    assert 10 <= len(timed.pages) <= 17
    assert share <= 0.01 + 0.0625 / 100.0
    timed.on_train_end()
    assert timed.pages[-1] > timed.pictures[-1] > 100.0


def test_pictures_of_a_short_run_are_made_at_its_end(timed):
    train_epochs(timed, 1, 10.0)
    assert timed.pictures == []
    timed.on_train_end()
    assert len(timed.pictures) == 1


@pytest.mark.parametrize("images", [7, 1.5, True])
def test_images_must_be_an_int_of_at_least_8(images):
    with pytest.raises(ValueError, match=r"images must be an int of at least 8\. Rec"):
        Report(None, images=images)


@pytest.mark.parametrize("share", [-0.1, 1.1, "all"])
def test_max_share_must_be_within_0_and_1(share):
    with pytest.raises(ValueError, match=r"max_share must be within 0..1\. Received:"):
        Report(None, max_share=share)


def test_callback_writes_the_page_in_model_fit(tmp_path):
    source = data.fashion_mnist_small("train[:64]")
    layers = [bk.RandomResizedCrop(size=28, area=(0.3, 1.0))]
    views = bk.TwoViews(layers, layers)
    model = small_model()
    model.compile(keras.optimizers.SGD(0.05))
    (tmp_path / "config.gin").write_text("")
    model.fit(
        views.dataset(source, 32, seed=0),
        steps_per_epoch=2,
        verbose=0,
        callbacks=[bk.TargetEMA(total_steps=2), Report(tmp_path, source, views)],
    )
    text = (tmp_path / "report.html").read_text()
    assert 'id="activations"' in text
    assert 'id="augmentations"' in text


def test_images_of_different_sizes_need_views(tmp_path, caplog):
    source = data.fashion_mnist_small("train[:16]")
    object.__setattr__(source, "image_size", None)
    report = Report(tmp_path, source)
    report.set_model(small_model())
    report.on_train_begin()
    report.on_train_end()
    assert "views must be given for data of different sizes" in caplog.text


def test_dry_run_and_report_without_a_folder_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(None, *REPORTED, dry_run=True)
    report = Report(None)
    report.on_train_begin()
    report.on_train_end()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_report_costs_less_than_a_hundredth_of_a_short_run(monkeypatch, tmp_path):
    spent = []
    for name in ("on_train_begin", "on_epoch_end", "on_train_end", "write"):

        def measured(*arguments, original=getattr(Report, name)):
            begin = time.process_time()
            original(*arguments)
            spent.append(time.process_time() - begin)

        monkeypatch.setattr(Report, name, measured)
    begin = time.process_time()
    # A third of its epochs: the cost of the report does not depend on their number.
    run(tmp_path, "train.epochs = 12", gin_file=FASHION_MNIST)
    assert (tmp_path / "report.html").exists()  # by default
    assert sum(spent) <= 0.01 * 3 * (time.process_time() - begin)
