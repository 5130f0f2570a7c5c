"""Records of benchmarks: intervals over seeds, files, and outdated identities."""

import math

import pytest

from byol_keras.results import records


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)],
)
def test_t_quantile_equals_printed_tables(degrees, quantile):
    assert records.t_quantile(degrees) == pytest.approx(quantile, abs=5e-5)


def test_interval_of_one_two_three():
    means, half_widths = records.mean_and_interval([{"a": 1.0}, {"a": 2.0}, {"a": 3.0}])
    assert means == {"a": 2.0}
    assert half_widths["a"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_interval():
    assert records.mean_and_interval([{"a": 1.0}]) == ({"a": 1.0}, {})


def test_equal_seeds_have_an_interval_of_zero():
    assert records.mean_and_interval([{"a": 0.1}] * 3)[1] == {"a": 0.0}


def test_record_has_means_intervals_and_every_seed():
    per_seed = {"raw_pixels": [{"a": 7.0}], "trained": [{"a": 1.0}, {"a": 3.0}]}
    identity = {"seeds": [4, 5], "baselines": ["raw_pixels"]}
    record = records.make_record(per_seed, {}, identity, seconds=1.234)
    assert record["results"] == {"raw_pixels": {"a": 7.0}, "trained": {"a": 2.0}}
    assert list(record["interval"]) == ["trained"]
    assert record["interval"]["trained"]["a"] == pytest.approx(12.7062, abs=1e-4)
    assert record["seeds"] == [4, 5]
    assert record["per_seed"] == per_seed
    assert record["seconds"] == 1.23
    assert {"byol_keras", "keras", "tensorflow"} <= record["versions"].keys()
    assert {"commit", "machine"} <= record.keys()


def test_stored_record_is_read_back(tmp_path):
    assert records.read(tmp_path, "knn") is None
    assert records.write(tmp_path, "knn", {"a": [1]}) == tmp_path / "knn.json"
    assert records.read(tmp_path, "knn") == {"a": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["knn.json"]


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_file_without_a_record_is_ignored(text, tmp_path):
    (tmp_path / "knn.json").write_text(text)
    assert records.read(tmp_path, "knn") is None


def test_changed_entries_of_an_identity_are_named():
    stored = {"identity": {"backbone": "x", "seeds": [0], "baselines": []}}
    now = {"backbone": "y", "seeds": [0], "baselines": ["raw_pixels"]}
    assert records.changed_entries(stored, now) == ["backbone", "baselines"]
    assert records.changed_entries(stored, stored["identity"]) == []


def test_record_without_an_identity_differs_in_all_entries():
    assert records.changed_entries({"results": {}}, {"backbone": "x"}) == ["backbone"]
