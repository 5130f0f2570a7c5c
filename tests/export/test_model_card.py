"""A model card has the facts, scores and recipe of a run."""

import json

from byol_keras.export.model_card import model_card, rewrite_scores, write_card


def test_card_has_facts_recipe_scores_and_licence(tmp_path):
    (tmp_path / "operative_config.gin").write_text("image_folder.path = 'cats'\n")
    (tmp_path / "benchmarks").mkdir()
    results = {"results": {"trained": {"knn/top1_k20": 81.55}}}
    (tmp_path / "benchmarks/knn.json").write_text(json.dumps(results))
    card = model_card(tmp_path, "BYOL", {"file": "model.onnx"}, "CC0-1.0")
    for line in (
        "| knn | knn/top1_k20 | 81.55 |",
        "image_folder.path = 'cats'",
        "| licence | CC0-1.0 |",
        "| file | model.onnx |",
    ):
        assert line in card.splitlines()


def test_later_scores_are_added_and_the_rest_of_a_card_is_unchanged(tmp_path):
    for folder in (tmp_path / "export", tmp_path / "export/online_backbone_onnx"):
        folder.mkdir()
        path = write_card(tmp_path, folder, "BYOL", {"a": "b"}, "MIT")
        path.write_text(path.read_text().replace("terms", "words"))
    (tmp_path / "benchmarks").mkdir()
    results = {"results": {"trained": {"knn/top1_k20": 81.55}}}
    (tmp_path / "benchmarks/knn.json").write_text(json.dumps(results))
    rewrite_scores(tmp_path)
    expected = model_card(tmp_path, "BYOL", {"a": "b"}, "MIT")
    for path in (tmp_path / "export").rglob("MODEL_CARD.md"):
        assert path.read_text() == expected.replace("terms", "words")
    assert "| knn | knn/top1_k20 | 81.55 |" in expected


def test_card_states_what_is_unknown(tmp_path):
    card = model_card(tmp_path, "BYOL", {})
    assert "| licence | not stated |" in card
    assert "No benchmark of this run has been found." in card
    assert "not in the run folder" in card
