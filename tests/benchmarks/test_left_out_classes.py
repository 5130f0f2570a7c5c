"""Classes left out are listed where a benchmark runs, and forgotten afterwards."""

from byol_keras.benchmarks.left_out_classes import (
    listed_left_out_classes,
    note_left_out_classes,
)


def test_list_has_the_classes_of_the_latest_benchmark_only():
    note_left_out_classes(["before"])
    with listed_left_out_classes() as names:
        assert names == []
        note_left_out_classes(["cow"])
        note_left_out_classes(["sheep", "boat"])
    note_left_out_classes(["after"])
    assert names == ["sheep", "boat"]


def test_lists_may_be_nested():
    with listed_left_out_classes() as outer:
        with listed_left_out_classes() as inner:
            pass
        note_left_out_classes(["cow"])
    assert (outer, inner) == (["cow"], [])
