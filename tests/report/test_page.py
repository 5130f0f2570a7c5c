"""The page shows the files of run folders, in valid HTML that loads no other file."""

import html.parser
import json
import re

import pytest

from byol_keras.report import page
from byol_keras.report.stored_run import read_run

from support.runs import HEALTH, PIXEL, RECORD, START, lines, pictures, write_run

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Reader(html.parser.HTMLParser):
    """Checks the nesting of elements, and collects texts, links and identifiers."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.loads, self.ids = [], [], [], []
        self.counts = {}

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [given[n] for n in ("src", "href", "xlink:href") if n in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert text.startswith("<!DOCTYPE html>")
    assert len(reader.ids) == len(set(reader.ids))
    for load in reader.loads:
        assert load.startswith("data:image/")
    assert not re.search(r"url\(|@import|<script|<link|https?://", text)
    return reader, " ".join(" ".join(reader.texts).split())


def rendered(*folders):
    return read(page.render([read_run(folder) for folder in folders]))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "quick")


def test_page_has_the_numbers_of_the_files(run):
    reader, text = rendered(run)
    for expected in (
        "quick",
        "Finished after 40 steps",
        "kNN top-1, k = 20 81.50",
        "RankMe 24",
        "loss 1.025",
        "images/s 640",
        "shrinking features lose directions",
        "effective rank is 24.1; before training it was 72.5",
        "Likely cause: the weight decay is too high.",
        "healthy at step 10, shrinking at step 30",
        "640 images/s; input-bound: 25% of the time spent waiting for input",
        "random init 73.35",
        "trained 81.55",
        "62.5 % of the 2 nearest neighbours",
        "by chance it would be 50.0 %",
        "Worst queries of all",
        "t-SNE of the same images at step 40.",
        "in inference mode, at step 40. It has",
        "averaged over its channels, at step 40: bright",
        "effective rank of 2.8 and a decay of 0.97",
        "Started 2026-01-02 03:04 UTC, by python -m byol_keras.train \\ --gin_file=",
        "Difference to gin/pretrain/quickstart.gin",
        "train.epochs 36 4",
        "tensorflow 2.21.0",
        "batch 128 = 1 replicas",
        "train.batch_size = 128",
    ):
        assert expected in text, expected
    assert reader.counts["polyline"] >= 6
    assert {"verdicts", "benchmarks", "augmentations", "neighbours", "map"} <= {
        *reader.ids
    }


SHORTCUTS = {
    "first": {"step": 0, "shortcut/color": 0.25},
    "latest": {"step": 30, "shortcut/color": 0.61, "shortcut/file": 0.125},
    "survival": {"color": 0.9},
    "shortcuts": {"color": "mean color predicts 61%: raise <hue>"},
}
CLASSES = {
    "images": 2000,
    "baselines": {"raw pixels": 47.0},
    "readings": [[10, 0.2, 31.4], [40, 1.0, 33.5]],
}


def add_verdicts(folder):
    """Adds a shortcut and a score below raw pixels to a run."""
    (folder / "health.json").write_text(json.dumps(HEALTH | SHORTCUTS))
    found = pictures() | {"classes": CLASSES}
    (folder / "report_pictures.json").write_text(json.dumps(found))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 40, "shortcut/color": 0.61}) + "\n")
    return folder


def test_page_has_shortcuts_and_the_scores_of_the_classes(run):
    reader, text = rendered(add_verdicts(run))
    for expected in (
        "not separated Not learning what separates your classes: at step 40, kNN",
        "mean color 25 % 61 % 90 %",
        "height, width and bytes of the file - 12 % -",
        "among 2000 images of the training data",
        "raw pixels 47.0 at step 10 31.4 at step 40 33.5",
        "Shortcuts by step",
    ):
        assert expected in text, expected
    assert {"shortcuts", "classes"} <= {*reader.ids}
    assert "shortcut/color" not in text  # it is no score


def test_shortcuts_are_in_one_verdict(run):
    add_verdicts(run)
    sentence = "Mean color predicts 61%: raise <hue>."
    _, text = rendered(run)
    assert text.count(sentence) == 1  # in the verdict on classes
    assert "1 shortcut" not in text
    (run / "report_pictures.json").write_text(json.dumps(pictures()))
    assert f"1 shortcut {sentence}" in rendered(run)[1]


def test_page_of_a_run_without_readings_has_no_sections_for_them(run):
    reader, text = rendered(run)
    assert not {"shortcuts", "classes"} & {*reader.ids}
    assert "not separated" not in text


def test_comparison_has_the_verdicts_of_each_run(tmp_path):
    first = add_verdicts(write_run(tmp_path / "first"))
    _, text = rendered(first, write_run(tmp_path / "second"))
    assert text.count("not separated Not learning what separates") == 1
    assert text.count("Mean color predicts 61%") == 1


def test_published_rows_are_below_those_of_the_run(run):
    _, text = rendered(run)
    assert "published: ResNet-50, ImageNet-1k, 200 epochs" in text
    assert text.index("trained 81.55") < text.index("published: ResNet-50")


def test_page_of_a_run_that_has_just_started_has_no_empty_section(tmp_path):
    (tmp_path / "config.gin").write_text("train.epochs = 3\n")
    reader, text = rendered(tmp_path)
    assert reader.ids == ["run"]
    assert "Nothing is logged yet." in text
    assert "img" not in reader.counts


def test_page_of_an_unfinished_run_has_its_position(run):
    (run / "export/backbone.keras").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    _, text = rendered(run)
    assert "Not finished: at step 40 of 40, in epoch 4, by the last line" in text


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("health.json", None),
        ("environment.json", None),
        ("benchmarks/knn.json", "benchmarks"),
        ("report_pictures.json", "map"),
        ("operative_config.gin", None),
        ("metrics.jsonl", None),
    ],
)
def test_section_of_a_missing_file_is_left_out(run, name, section):
    (run / name).unlink()
    reader, _ = rendered(run)
    assert section not in reader.ids


@pytest.mark.parametrize("name", [*pictures()])
def test_section_of_a_missing_picture_is_left_out(run, name):
    found = pictures()
    if name == "step":
        return
    del found[name]
    (run / "report_pictures.json").write_text(json.dumps(found))
    reader, _ = rendered(run)
    assert name not in reader.ids


def test_names_with_markup_are_escaped(run):
    found = pictures()
    found["map"]["classes"][0] = "<b>&"
    found["neighbours"]["groups"][0]["title"] = "</div><i>"
    (run / "report_pictures.json").write_text(json.dumps(found))
    health = HEALTH | {"causes": ["a < b"]}
    (run / "health.json").write_text(json.dumps(health))
    _, text = rendered(run)
    for expected in ("<b>&", "</div><i>", "a < b."):
        assert expected in text


def test_map_of_many_classes_has_a_colour_for_each_and_no_legend(run):
    found = pictures()
    found["map"]["classes"] = [f"class {n}" for n in range(30)]
    found["map"]["points"] = [[0.5, 0.5, n] for n in range(30)]
    (run / "report_pictures.json").write_text(json.dumps(found))
    text = page.render([read_run(run)])
    assert len(set(re.findall(r'fill="(hsl[^"]+)"', text))) == 30
    assert "30 classes, too many to list" in text


def test_resumed_run_has_the_number_of_its_starts(run):
    starts = [START, START | {"step": 20, "command": "python -m again"}]
    (run / "environment.json").write_text(json.dumps(starts))
    _, text = rendered(run)
    assert "resumed 1 time, by python -m again" in text
    assert "Started 2026-01-02 03:04 UTC" in text


def test_verdicts_count_skipped_steps(run):
    line = json.dumps({"step": 40, "skipped_steps": 3})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert "3 skipped" in rendered(run)[1]


def benchmark_record(folder, digest, value, name="knn"):
    """Adds a result of a backbone to a run."""
    record = RECORD | {
        "results": {"trained": {f"{name}/top1_k20": value}},
        "identity": RECORD["identity"] | {"backbone": digest, "baselines": []},
    }
    (folder / f"benchmarks/{name}.json").write_text(json.dumps(record))


def test_scores_of_other_weights_are_apart_and_named(run):
    benchmark_record(run, "0ther", 93.75)
    reader, text = rendered(run)
    assert "benchmarks" not in reader.ids
    assert "knn knn/top1_k20 93.75 0ther" in text
    assert "Measured on earlier weights of this run or on other backbones" in text
    benchmark_record(run, "5ca1ab1e", 62.5, "svm")
    reader, text = rendered(run)
    assert {"benchmarks", "others"} <= {*reader.ids}
    table_of_run = text[text.index("trained") : text.index("Benchmarks of other")]
    assert "62.5" in table_of_run
    assert "93.75" not in table_of_run


def test_scores_are_earlier_ones_while_training_is_underway(run):
    resumed = START | {"step": 40, "total_steps": 120}
    del resumed["seconds"]
    (run / "environment.json").write_text(json.dumps([START, resumed]))
    reader, text = rendered(run)
    assert "benchmarks" not in reader.ids
    assert "knn knn/top1_k20 81.55 5ca1ab1e" in text
    assert "Not finished: at step 40 of 120" in text


def test_page_without_results_of_others_has_no_section_for_them(run):
    assert "others" not in rendered(run)[0].ids


def test_comparison_leaves_out_scores_of_other_weights(tmp_path):
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second")
    benchmark_record(second, "0ther", 93.75)
    _, text = rendered(first, second)
    assert "knn/top1_k20 81.55 - knn" in text
    assert "93.75" not in text


def test_score_from_before_the_last_step_has_its_step(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 50, "epoch": 5, "loss": 1.0}) + "\n")
    _, text = rendered(run)
    assert "kNN top-1, k = 20, step 40 81.50" in text
    _, text = rendered(run, write_run(run.parent / "other"))
    assert "knn/top1_k20, last logged 81.50, step 40 81.50" in text


def test_two_runs_are_side_by_side(tmp_path):
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", loss=0.5, epochs=9)
    record = RECORD | {"results": {"trained": {"knn/top1_k20": 79.0}}}
    (second / "benchmarks/knn.json").write_text(json.dumps(record))
    reader, text = rendered(first, second)
    assert "2 runs compared" in text
    assert "train.epochs 4 9" in text
    assert "train.batch_size" not in text  # the same in both
    assert "knn/top1_k20 81.55 79.00" in text
    assert "loss, last logged 1.025 0.525" in text
    assert {"first", "second"} <= {*text.split()}
    assert "augmentations" not in reader.ids


def test_runs_with_different_files_are_compared(tmp_path):
    first = write_run(tmp_path / "first")
    second = tmp_path / "second"
    second.mkdir()
    (second / "metrics.jsonl").write_text(json.dumps(lines()[0]))
    _, text = rendered(first, second)
    assert "knn/top1_k20 81.55 -" in text
    assert "tensorflow 2.21.0 -" in text


def test_runs_of_the_same_name_show_their_parent_folders(tmp_path):
    folders = [write_run(tmp_path / name / "run") for name in ("a", "b")]
    written = page.write_page(folders, tmp_path / "pages/both.html")
    text = written.read_text()
    assert "a/run" in text
    assert "b/run" in text


def test_page_is_one_file_with_its_pictures(run):
    written = page.write_page([run], run / "report.html")
    read(written.read_text())
    assert PIXEL in written.read_text()
    assert not list(run.glob("*.tmp"))


def test_url_is_no_place_for_a_page():
    with pytest.raises(ValueError, match=r"^path must be a local path"):
        page.write_page([], "gs://bucket/report.html")
