"""Claims about records: intervals, seeds, baselines, and what makes them stale."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks import measure
from byol_keras.export import digest, export_backbone, load_backbone
from byol_keras.results import records


@pytest.fixture(scope="module")
def backbone():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


def first_weight(backbone, seed=0):
    return {"toy/weight": float(backbone.weights[0][0, 0, 0, 0]), "toy/seed": seed}


def unseeded(backbone):
    return {"toy/weight": float(backbone.weights[0][0, 0, 0, 0])}


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)],
)
def test_t_quantile_is_that_of_the_printed_tables(degrees, quantile):
    assert records.t_quantile(degrees) == pytest.approx(quantile, abs=5e-5)


def test_interval_of_one_two_three():
    means, half_widths = records.mean_and_interval([{"a": 1.0}, {"a": 2.0}, {"a": 3.0}])
    assert means == {"a": 2.0}
    assert half_widths["a"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_interval():
    assert records.mean_and_interval([{"a": 1.0}]) == ({"a": 1.0}, {})


def test_equal_seeds_have_an_interval_of_zero():
    assert records.mean_and_interval([{"a": 0.1}] * 3)[1] == {"a": 0.0}


def test_function_with_a_seed_runs_once_for_each(backbone):
    per_seed, _ = measure.measure(first_weight, backbone, (), [5, 6])
    assert [run["toy/seed"] for run in per_seed["trained"]] == [5.0, 6.0]


def test_function_without_a_seed_runs_once(backbone):
    per_seed, _ = measure.measure(unseeded, backbone, (), [5, 6])
    assert len(per_seed["trained"]) == 1


def test_random_init_is_drawn_anew_for_every_seed_of_any_function(backbone):
    per_seed, _ = measure.measure(unseeded, backbone, ["random_init"], [5, 6])
    again, _ = measure.measure(unseeded, backbone, ["random_init"], [6])
    assert list(per_seed) == ["random_init", "trained"]
    values = [run["toy/weight"] for run in per_seed["random_init"]]
    assert len({*values, per_seed["trained"][0]["toy/weight"]}) == 3
    assert again["random_init"][0]["toy/weight"] == values[1]


def test_baseline_that_cannot_do_it_has_a_reason_instead(backbone):
    def needs_weights(model):
        if not model.weights:
            raise ValueError("backbone must have weights. Received: none\n  in a call")
        return {"toy/one": 1}

    per_seed, missing = measure.measure(needs_weights, backbone, ["raw_pixels"], [0])
    assert per_seed == {"trained": [{"toy/one": 1.0}]}
    assert missing == {"raw_pixels": "backbone must have weights. Received: none"}


def test_reason_of_an_error_in_a_traced_function_is_what_was_raised():
    @tf.function
    def fails(x):
        raise ValueError("x must be there.\nReceived: it")

    with pytest.raises(ValueError, match="in user code") as caught:
        fails(tf.zeros([]))
    assert measure.reason(caught.value) == "x must be there."


@pytest.mark.parametrize(
    ("message", "line"), [("a\n  b", "a"), ("\n a", "a"), ("", "ValueError: ")]
)
def test_reason_of_any_error_is_its_first_line(message, line):
    assert measure.reason(ValueError(message)) == line


def test_what_the_trained_backbone_cannot_do_is_an_error(backbone):
    def fails(model):
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        measure.measure(fails, backbone, ["raw_pixels"], [0])


def test_real_fault_of_a_baseline_is_not_taken_for_a_gap(backbone):
    def fails(model):
        if not model.weights:
            raise KeyError("a bug")
        return {"toy/one": 1.0}

    with pytest.raises(KeyError, match="a bug"):
        measure.measure(fails, backbone, ["raw_pixels"], [0])


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
def test_file_that_is_no_record_counts_as_none(text, tmp_path):
    (tmp_path / "knn.json").write_text(text)
    assert records.read(tmp_path, "knn") is None


def test_changes_name_what_is_another():
    stored = {"identity": {"backbone": "x", "seeds": [0], "baselines": []}}
    now = {"backbone": "y", "seeds": [0], "baselines": ["raw_pixels"]}
    assert records.changes(stored, now) == ["backbone", "baselines"]
    assert records.changes(stored, stored["identity"]) == []


def test_record_of_before_identities_holds_for_nothing():
    assert records.changes({"results": {}}, {"backbone": "x"}) == ["backbone"]


def test_digest_outlives_another_export_of_the_same_weights(backbone, tmp_path):
    digests = []
    for _ in range(2):
        export_backbone(backbone, tmp_path)
        digests.append(digest.backbone_digest(load_backbone(tmp_path)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("kind", ["backbone.keras", "saved_model"])
def test_digest_changes_with_one_weight_by_the_least_step(kind, backbone, tmp_path):
    export_backbone(backbone, tmp_path)
    first, second = (load_backbone(tmp_path / kind) for _ in range(2))
    assert digest.backbone_digest(first) == digest.backbone_digest(second)
    weight = second.weights[0]
    weight.assign(np.nextafter(weight.numpy(), np.float32(9)))
    assert digest.backbone_digest(first) != digest.backbone_digest(second)


def test_digest_tells_configurations_of_equal_weights_apart():
    def with_stride(strides):
        layer = keras.layers.Conv2D(
            1, 3, strides=strides, kernel_initializer="ones", name="conv"
        )
        images = keras.Input((8, 8, 1), name="images")
        return keras.Model(images, layer(images), name="backbone")

    digests = [digest.backbone_digest(with_stride(s)) for s in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]
