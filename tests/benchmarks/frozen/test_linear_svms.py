"""Costs, lengths, targets and processes of the SVM benchmarks."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from byol_keras import data
from byol_keras.benchmarks.frozen import svm
from byol_keras.benchmarks.frozen.linear_svms import (
    COSTS,
    Need,
    check_costs,
    check_counts,
    check_jobs,
    class_targets,
    in_processes,
    known_precision,
    require_scikit_learn,
    scored_classes,
    unit_length,
)

from support.datasets import make_multi_label, mean_colour

needs_scikit_learn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)


def test_costs_are_the_19_published():
    costs = COSTS
    assert (len(costs), costs[:4]) == (19, (1.0, 10.0, 100.0, 0.0625))
    assert costs[-1] == 1.9073486328125e-06


def test_length_of_features_is_published():
    found = unit_length(np.array([[3, 4]], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0.599998800002, 0.799998400003]], atol=1e-12)


def test_images_to_ignore_do_not_count_in_the_precision():
    scores, known = np.array([4.0, 3, 2, 1]), np.array([0, 1, 0, 1])
    ignored = np.array([-1, 1, 0, 1])
    assert known_precision(scores, known) == 0.5
    assert known_precision(scores, ignored) == pytest.approx(5 / 6)


@needs_scikit_learn
def test_two_processes_give_the_result_of_one_without_loading_tensorflow():
    train, _, _ = make_multi_label()
    arguments = (mean_colour(), train, train, None, ["avgpool"], COSTS[:2])
    assert svm(*arguments, jobs=2) == svm(*arguments, jobs=1)

    def has_tensorflow(features):
        return "tensorflow" in sys.modules, type(features).__name__

    large = np.zeros((1024, 256))  # 2 MB
    found = list(in_processes(has_tensorflow, [(large,)] * 4, 2, "look"))
    assert found == [(False, "memmap")] * 4


def labelled(*labels):
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return data.arrays(images, np.array(labels))


def test_targets_of_one_label_per_image_are_one_class_against_the_rest():
    train, test = class_targets(labelled(0, 1, 1), labelled(1, 0), "svm")
    assert train.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert test.tolist() == [[0, 1], [1, 0]]
    assert train.dtype == np.int8


def test_test_images_among_the_training_images_are_a_warning(tmp_path, caplog):
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), number).save(path)
    caplog.set_level("WARNING", logger="byol_keras")
    found = data.image_folder(tmp_path)
    class_targets(found, found, "svm")
    (warning,) = caplog.messages
    assert warning.startswith("svm.test_data: 4 of 4 images compared are also in ")


def test_class_without_a_test_image_is_named():
    test_data = labelled(1, 1)
    _, test = class_targets(labelled(0, 1), test_data, "svm")
    need = Need("svm.test_data", test_data, test == 1, 1)
    with pytest.raises(ValueError, match=r"^svm\.test_data must have 1 or more .*'0'"):
        scored_classes("svm", [need], leave_out=False)


def test_class_of_too_few_images_is_named_with_their_number():
    belongs = np.array([[True, False], [True, True]])
    message = r"^svm\.train_data must have 2 or more images outside every class\. "
    with pytest.raises(ValueError, match=message + r"Received: 1 outside '1' in "):
        check_counts(Need("svm.train_data", labelled(0, 1), belongs, 2, "outside"))


@pytest.mark.parametrize("costs", [(), 1.0, [1.0, 0.0], ["1"]])
def test_costs_that_are_no_list_of_positive_numbers_are_refused(costs):
    with pytest.raises(ValueError, match=r"^svm\.costs must be a list of positive num"):
        check_costs("svm.costs", costs)


@pytest.mark.parametrize("jobs", [0, -1, 1.5])
def test_jobs_must_be_none_or_positive(jobs):
    check_jobs("svm.jobs", None)
    with pytest.raises(ValueError, match=r"^svm\.jobs must be a positive int"):
        check_jobs("svm.jobs", jobs)


def test_missing_scikit_learn_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    message = r'^svm needs scikit-learn: pip install "byol_keras\[benchmarks\]"'
    with pytest.raises(ValueError, match=message):
        require_scikit_learn("svm")
