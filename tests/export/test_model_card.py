"""A model card has the facts and the recipe of a run, and scores of its weights."""

import json

import pytest

from byol_keras.export.digest import note_digest
from byol_keras.export.model_card import (
    model_card,
    rewrite_scores,
    rewrite_table,
    write_card,
)
from byol_keras.runtime.run_folder import RunFolder

SCORE = "| knn | knn/top1_k20 | 81.55 |"


def export(folder, digest, file="backbone.keras"):
    """Stands for an export of weights with this digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(digest)
    note_digest(folder / file, digest)
    return folder


def benchmark_record(folder, digest, name="knn"):
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "results": {"trained": {"knn/top1_k20": 81.55}},
        "interval": {},
        "seeds": [0],
        "missing": {},
        "identity": {"backbone": digest, "baselines": []},
    }
    (folder / f"{name}.json").write_text(json.dumps(record))


def card_of(run_folder, folder):
    return write_card(run_folder, folder, "BYOL", {"a": "b"}).read_text()


def test_card_has_facts_recipe_and_licence(tmp_path):
    (tmp_path / "operative_config.gin").write_text("image_folder.path = 'cats'\n")
    card = model_card(tmp_path, "BYOL", {"file": "model.onnx"}, "CC0-1.0", SCORE)
    for line in (
        SCORE,
        "image_folder.path = 'cats'",
        "| licence | CC0-1.0 |",
        "| file | model.onnx |",
    ):
        assert line in card.splitlines()


def test_card_states_what_is_unknown(tmp_path):
    card = card_of(tmp_path, export(tmp_path / "export", "own"))
    assert "| licence | not stated |" in card
    assert "No benchmark of this run has been found." in card
    assert "not in the run folder" in card


def test_card_has_the_scores_of_its_weights(tmp_path):
    benchmark_record(tmp_path / "benchmarks", "own")
    card = card_of(tmp_path, export(tmp_path / "export", "own"))
    shown = [line for line in card.splitlines() if line]
    place = shown.index("Scores of the exported weights:")
    assert shown[place + 3] == SCORE


@pytest.mark.parametrize("digest", ["earlier", None])
def test_card_has_no_scores_of_other_or_unknown_weights(digest, tmp_path):
    benchmark_record(tmp_path / "benchmarks", digest)
    card = card_of(tmp_path, export(tmp_path / "export", "own"))
    assert "81.55" not in card
    assert "No benchmark of these weights has been found." in card
    assert "results of other weights, which are not shown here: 1." in card


def test_every_network_has_the_scores_that_were_measured_on_it(tmp_path):
    run = RunFolder(tmp_path)
    benchmark_record(run.benchmarks, "online")
    online = export(run.exported("online", "backbone", "onnx"), "online", "model.onnx")
    target = export(run.exported("target", "backbone", "onnx"), "target", "model.onnx")
    assert SCORE in card_of(run, online)
    assert "81.55" not in card_of(run, target)
    benchmark_record(run.benchmark_folder("target").path, "target", "linear")
    rewrite_scores(run)
    card = (target / "MODEL_CARD.md").read_text()
    assert "| linear | knn/top1_k20 | 81.55 |" in card
    assert SCORE not in card
    assert "| linear |" not in (online / "MODEL_CARD.md").read_text()


def test_later_scores_are_added_and_the_rest_of_a_card_is_unchanged(tmp_path):
    for folder in (tmp_path / "export", tmp_path / "export/online_backbone_onnx"):
        export(folder, "own")
        path = write_card(tmp_path, folder, "BYOL", {"a": "b"}, "MIT")
        path.write_text(path.read_text().replace("terms", "words"))
    benchmark_record(tmp_path / "benchmarks", "own")
    rewrite_scores(tmp_path)
    for path in (tmp_path / "export").rglob("MODEL_CARD.md"):
        folder = path.parent
        found = path.read_text()
        assert SCORE in found
        write_card(tmp_path, folder, "BYOL", {"a": "b"}, "MIT")
        assert found == path.read_text().replace("terms", "words")


def test_scores_leave_the_card_when_the_weights_change(tmp_path):
    benchmark_record(tmp_path / "benchmarks", "own")
    folder = export(tmp_path / "export", "own")
    assert SCORE in card_of(tmp_path, folder)
    export(folder, "later")
    rewrite_scores(tmp_path)
    assert "81.55" not in (folder / "MODEL_CARD.md").read_text()


def test_table_of_results_keeps_only_those_of_the_exported_weights(tmp_path):
    run = RunFolder(tmp_path)
    for name in ("knn", "svm"):
        benchmark_record(run.benchmarks, "own", name)
    run.benchmarks_table.write_text("as written\n")
    folder = export(run.export, "own")
    rewrite_table(run)
    assert run.benchmarks_table.read_text() == "as written\n"
    benchmark_record(run.benchmarks, "earlier", "svm")
    rewrite_table(run)
    head, _, trained, *_ = run.benchmarks_table.read_text().splitlines()
    assert head.startswith("| percent | kNN k=20 |")
    assert "svm" not in head
    assert trained.startswith("| trained | 81.55 |")
    export(folder, "later")
    rewrite_table(run)
    assert run.benchmarks_table.read_text().startswith("No benchmark of these weights")
