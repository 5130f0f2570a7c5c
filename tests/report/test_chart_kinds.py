"""Scores are grouped into charts, and every chart of a page has an explanation."""

import pytest

from byol_keras.report.chart_kinds import KINDS, MONITORS, SPEED, score_kinds
from byol_keras.report.stored_run import StoredRun


def test_scores_of_several_k_share_a_chart_in_the_order_of_k():
    line = {"step": 1, "knn/top1_k100": 1.0, "knn/top1_k20": 2.0, "probe/loss": 3.0}
    lines = [line | {"monitor/rankme": 1.0, "shortcut/all": 1.0, "loss": 1.0}]
    knn, probe = score_kinds([StoredRun("run", "", lines, {}, [], {}, {}, False)])
    assert (knn.title, probe.title) == ("knn/top1", "probe/loss")
    quantities = [*knn.quantities.items()]
    assert quantities == [("knn/top1_k20", "k = 20"), ("knn/top1_k100", "k = 100")]
    assert "labelled images" in knn.note


@pytest.mark.parametrize("kind", [*KINDS, *MONITORS, *SPEED], ids=lambda x: x.title)
def test_chart_has_quantities_a_note_and_a_known_scale(kind):
    assert kind.quantities and kind.note.endswith(".")
    assert kind.scale in ("linear", "zero", "log")
