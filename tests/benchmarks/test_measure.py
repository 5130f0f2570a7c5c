"""Runs with baselines and seeds, the identity of a result, and error messages."""

import functools
import importlib

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.benchmarks import left_out_classes, measure
from byol_keras.data import image_folder, unreadable

from support.datasets import write


@gin.register(module="tests")
def measured_toy(backbone, images=gin.REQUIRED, seed=0):
    return {"toy/seed": seed}


class Images:
    def digest(self):
        return "of the images"


@pytest.fixture(scope="module")
def backbone():
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    return keras.Model(images, {"avgpool": keras.layers.GlobalAveragePooling2D()(x)})


def first_weight(backbone, seed=0):
    return {"toy/weight": float(backbone.weights[0][0, 0, 0, 0]), "toy/seed": seed}


def unseeded(backbone):
    return {"toy/weight": float(backbone.weights[0][0, 0, 0, 0])}


def test_function_with_a_seed_runs_once_for_each(backbone):
    per_seed, _ = measure.run_with_baselines(first_weight, backbone, (), [5, 6])
    assert [run["toy/seed"] for run in per_seed["trained"]] == [5.0, 6.0]


def test_function_without_a_seed_runs_once(backbone):
    per_seed, _ = measure.run_with_baselines(unseeded, backbone, (), [5, 6])
    assert len(per_seed["trained"]) == 1


def test_random_init_is_redrawn_for_every_seed_of_any_function(backbone):
    per_seed, _ = measure.run_with_baselines(
        unseeded, backbone, ["random_init"], [5, 6]
    )
    again, _ = measure.run_with_baselines(unseeded, backbone, ["random_init"], [6])
    assert list(per_seed) == ["random_init", "trained"]
    values = [run["toy/weight"] for run in per_seed["random_init"]]
    assert len({*values, per_seed["trained"][0]["toy/weight"]}) == 3
    assert again["random_init"][0]["toy/weight"] == values[1]


def test_baseline_that_raises_a_value_error_has_a_reason_instead(backbone):
    def needs_weights(model):
        if not model.weights:
            raise ValueError("backbone must have weights. Received: none\n  in a call")
        return {"toy/one": 1}

    per_seed, missing = measure.run_with_baselines(
        needs_weights, backbone, ["raw_pixels"], [0]
    )
    assert per_seed == {"trained": [{"toy/one": 1.0}]}
    assert missing == {"raw_pixels": "backbone must have weights. Received: none"}


def test_reason_of_an_error_in_a_traced_function_is_its_message():
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


def test_value_error_of_the_trained_backbone_is_raised(backbone):
    def fails(model):
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        measure.run_with_baselines(fails, backbone, ["raw_pixels"], [0])


def test_bug_in_a_baseline_is_raised(backbone):
    def fails(model):
        if not model.weights:
            raise KeyError("a bug")
        return {"toy/one": 1.0}

    with pytest.raises(KeyError, match="a bug"):
        measure.run_with_baselines(fails, backbone, ["raw_pixels"], [0])


def test_output_folder_is_passed_to_a_benchmark_that_writes(backbone, tmp_path):
    def writes(backbone, output_dir):
        (output_dir / "picture.png").write_text("a picture")
        return {}

    measure.run_with_baselines(writes, backbone, (), [0], output_dir=tmp_path)
    assert (tmp_path / "picture.png").exists()


def test_record_has_what_was_left_out(backbone):
    def leaves_out(backbone):
        unreadable.note_left_out("images", 2)
        left_out_classes.note_left_out_classes(["cow", "sheep"])
        return {"toy/one": 1.0}

    task = measure.Task("toy", leaves_out, [], "tests.leaves_out")
    setting = measure.Setting(backbone, "digest", ["raw_pixels"], 0, 1, set())
    record = measure.measured_record(task, {"seeds": [0]}, setting)
    assert record["left_out_images"] == {"images": 2}
    assert record["left_out_classes"] == ["cow", "sheep"]
    assert record["results"]["trained"] == {"toy/one": 1.0}


# The identity of a result.


@pytest.fixture
def toy_identity():
    """Identity of a toy benchmark by its arguments; gin binds its seed."""
    # The command line registers the name that the configuration must bind.
    importlib.import_module("byol_keras.benchmarks.__main__")
    gin.parse_config("benchmark.seeds = 2\nmeasured_toy.seed = 3")
    task = measure.Task("toy", measured_toy, [], "tests.measured_toy")
    setting = measure.Setting(None, "digest", ["raw_pixels"], 5, 2, set())
    return lambda **arguments: measure.identity_of(task, arguments, setting)


def test_identity_holds_all_that_determines_a_result(toy_identity):
    found = toy_identity(images=Images())
    assert found.pop("version")
    assert found == {
        "backbone": "digest",
        "bindings": ["measured_toy.seed = 3"],
        "data": {"images": "of the images"},
        "baselines": ["raw_pixels"],
        "seeds": [5, 6],
    }


def test_bound_seed_replaces_the_first_seed_of_the_run(toy_identity):
    assert toy_identity(images=Images(), seed=3)["seeds"] == [3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "images must be bound. Received: none"),
        ({"images": Images(), "seed": -1}, "seed must be an int of at least 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(toy_identity, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        toy_identity(**arguments)


# Tasks.


class Reference:
    """As gin refers to a function."""

    def __init__(self, selector, *scopes):
        self.scopes = list(scopes)
        self.configurable = type("", (), {"selector": selector})


def test_tasks_have_the_names_of_the_dict_and_the_scopes_of_gin():
    function = functools.partial(measured_toy, images=None)
    found = measure.make_tasks({"far": function}, {"far": Reference("a.toy", "b")})
    assert found == [measure.Task("far", function, ["b"], "a.toy")]


def test_tasks_of_a_list_have_the_names_of_their_functions():
    (task,) = measure.make_tasks([measured_toy], [Reference("tests.measured_toy")])
    assert task.name == "measured_toy"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((["supervised"], 0, 1), "baselines"),
        (("raw_pixels", 0, 1), "baselines"),
        (([], -1, 1), "seed"),
        (([], 0, 0), "seeds"),
    ],
)
def test_wrong_shared_settings_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=rf"^benchmark\.{name} must be .* Received: "):
        measure.check_shared(*arguments)


@pytest.mark.parametrize(
    "record, is_broken, expected",
    [({}, True, True), ({}, False, False), ({"left_out_images": {}}, True, False)],
)
def test_record_of_before_unreadable_images_were_left_out_is_found(
    record, is_broken, expected, tmp_path
):
    pixels = np.zeros((4, 4, 3), np.uint8)
    for number in range(3):
        write(tmp_path / f"{number}.png", tf.io.encode_png(pixels))
    images = image_folder(tmp_path, max_bad_share=0.5)
    if is_broken:
        write(tmp_path / "1.png", b"no image")
    arguments = {"images": images, "k": 20}
    assert measure.has_unreadable(record, arguments) is expected
