"""Records of benchmarks: intervals over seeds, files, identities, their weights."""

import json
import math

import pytest

from byol_keras.results import records
from byol_keras.runtime.run_folder import RunFolder


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


def write_record(folder, name, digest, value=1.0):
    folder.path.mkdir(parents=True, exist_ok=True)
    identity = {"backbone": digest, "baselines": [], "seeds": [0]}
    record = records.make_record({"trained": [{"a": value}]}, {}, identity, 0.0)
    records.write(folder.path, name, record)


def values(found):
    return [(name, record["results"]["trained"]["a"]) for name, record in found]


@pytest.fixture
def run(tmp_path):
    """Results of the weights "own", of earlier ones, and of another backbone."""
    run = RunFolder(tmp_path)
    write_record(run.benchmark_folder(), "knn", "own", 1.0)
    write_record(run.benchmark_folder(), "svm", "earlier", 2.0)
    write_record(run.benchmark_folder("other"), "knn", "other", 3.0)
    return run


@pytest.mark.parametrize(
    ("digests", "own", "others"),
    [
        ({"own"}, [("knn", 1.0)], [("svm", 2.0), ("knn", 3.0)]),
        ({"own", "earlier"}, [("knn", 1.0), ("svm", 2.0)], [("knn", 3.0)]),
        ({"other"}, [("knn", 3.0)], [("knn", 1.0), ("svm", 2.0)]),
        ({"absent"}, [], [("knn", 1.0), ("svm", 2.0), ("knn", 3.0)]),
        (set(), [], [("knn", 1.0), ("svm", 2.0), ("knn", 3.0)]),
    ],
)
def test_records_are_split_by_the_weights_that_they_were_measured_on(
    digests, own, others, run
):
    found = records.read_split(run, lambda: digests)
    assert values(found.own.items()) == own
    assert values(found.others) == others


def test_equal_names_of_the_same_weights_count_once(run):
    write_record(run.benchmark_folder("own"), "knn", "own", 4.0)
    found = records.read_split(run, lambda: {"own"})
    assert values(found.own.items()) == [("knn", 1.0)]
    assert ("knn", 4.0) in values(found.others)


def test_without_an_export_results_belong_together_if_they_are_of_one_backbone(run):
    assert records.read_split(run, None).own == {}
    write_record(run.benchmark_folder(), "svm", "own", 2.0)
    found = records.read_split(run, None)
    assert values(found.own.items()) == [("knn", 1.0), ("svm", 2.0)]
    assert values(found.others) == [("knn", 3.0)]


@pytest.mark.parametrize("identity", [None, {}, [], {"baselines": []}])
@pytest.mark.parametrize("digests", [None, lambda: {"own", None}])
def test_record_that_names_no_weights_belongs_to_none(tmp_path, identity, digests):
    folder = RunFolder(tmp_path).benchmark_folder()
    write_record(folder, "knn", "own")
    record = records.read(folder.path, "knn") | {"identity": identity}
    folder.result("knn").write_text(json.dumps(record))
    found = records.read_split(tmp_path, digests)
    assert (found.own, values(found.others)) == ({}, [("knn", 1.0)])


def test_incomplete_record_of_the_weights_is_not_shown_as_complete(run):
    record = records.read(run.benchmarks, "knn")
    del record["interval"]
    records.write(run.benchmarks, "knn", record)
    assert records.read_split(run, lambda: {"own"}).own == {}


def test_weights_are_identified_only_if_there_are_records(tmp_path):
    def fail():
        raise AssertionError("the backbone is loaded")

    assert records.read_split(tmp_path, fail) == ({}, [])
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/other.json").write_text('{"results": 7}')
    assert records.read_split(tmp_path, fail) == ({}, [])
