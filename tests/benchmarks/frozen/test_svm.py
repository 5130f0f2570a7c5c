"""SVMs of VOC07: cost by cross-validation, and published metrics."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest

from byol_keras import data
from byol_keras.benchmarks.average_precision import average_precision
from byol_keras.benchmarks.frozen import linear_svms
from byol_keras.benchmarks.frozen.svm import cross_validated_svm, svm
from byol_keras.benchmarks.left_out_classes import listed_left_out_classes

from support.datasets import image_data, make_multi_label, mean_colour

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)

COSTS = (1.0, 0.0625, 0.5**12)


def searched_svm(features, signs, costs=COSTS):
    """The published SVM of one class, by scikit-learn's own search."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import LinearSVC

    model = LinearSVC(
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        tol=1e-4,
        class_weight={1: 2, -1: 1},
        max_iter=2000,
        random_state=0,
    )
    grid = {"C": list(costs)}
    cv = StratifiedKFold(3, shuffle=False)
    return GridSearchCV(model, grid, scoring="average_precision", cv=cv).fit(
        features, signs
    )


def random_problem(num_examples=90, dimensions=12, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_examples, dimensions))
    noise = rng.normal(0, 2, num_examples)
    return features, np.where(features[:, :3].sum(axis=1) + noise > 1.5, 1, -1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_svm_of_a_class_equals_a_grid_search_by_scikit_learn(seed):
    features, signs = random_problem(seed=seed)
    found, _ = cross_validated_svm(COSTS, 3)(features, signs)
    expected = searched_svm(features, signs)
    assert found.get_params() == expected.best_estimator_.get_params()
    np.testing.assert_array_equal(
        found.decision_function(features), expected.decision_function(features)
    )


def test_the_search_does_not_always_take_one_cost():
    problems = [random_problem(seed=seed) for seed in (0, 1, 2)]
    assert len({searched_svm(*problem).best_params_["C"] for problem in problems}) > 1


def test_first_of_equally_good_costs_is_chosen():
    signs = np.where(np.arange(30) % 3, -1, 1)
    features = signs[:, None] * np.ones((1, 2))  # every cost separates the classes
    for costs in ((1.0, 100.0), (100.0, 1.0)):
        found, _ = cross_validated_svm(costs, 3)(features, signs)
        assert found.get_params()["C"] == costs[0]


def expected_map(train_images, train_labels, test_images, test_labels):
    """Percent, of the mean colours, image by image and class by class."""
    train, test = (
        linear_svms.unit_length(np.repeat(images[:, 0, 0] / 255.0, 4, axis=1))
        for images in (train_images, test_images)
    )
    precisions = []
    for c in range(train_labels.shape[1]):
        search = searched_svm(train, np.where(train_labels[:, c] == 1, 1, -1))
        known = test_labels[:, c] != -1
        scores = search.decision_function(test[known])
        precisions.append(average_precision(scores, test_labels[known, c] == 1))
    return 100 * np.mean(precisions)


def test_map_equals_a_plain_computation_with_ignored_labels():
    train, train_images, train_labels = make_multi_label(ignored=0.2)
    test, test_images, test_labels = make_multi_label(40, seed=1, ignored=0.2)
    found = svm(mean_colour(), train, test, None, ["pooled5"], COSTS, jobs=1)
    expected = expected_map(train_images, train_labels, test_images, test_labels)
    assert 50 < expected < 99
    assert found == {
        "svm/feature5_mAP": pytest.approx(expected),
        "svm/best_mAP": pytest.approx(expected),
    }


def test_layers_are_named_as_published_and_the_best_is_reported():
    train, _, _ = make_multi_label()
    backbone = mean_colour()
    found = svm(backbone, train, train, None, ["avgpool", "pooled5"], COSTS[:1], jobs=1)
    assert set(found) == {"svm/avgpool_mAP", "svm/feature5_mAP", "svm/best_mAP"}
    best = max(found["svm/avgpool_mAP"], found["svm/feature5_mAP"])
    assert found["svm/best_mAP"] == best


def test_ignored_labels_are_negatives_in_training():
    _, images, labels = make_multi_label(ignored=0.3)
    test, _, _ = make_multi_label(40, seed=1)
    found = [
        svm(
            mean_colour(), image_data(images, x), test, None, ["avgpool"], COSTS, jobs=1
        )
        for x in (labels, np.where(labels == 1, 1, 0))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("labels", [np.arange(30) // 10, np.arange(30) % 3])
def test_constant_features_score_the_share_of_positives_in_any_order(labels):
    images = np.full((30, 4, 4, 3), 100, np.uint8)
    gray = data.arrays(images, labels)
    found = svm(mean_colour(), gray, gray, None, ["avgpool"], COSTS[:1], jobs=1)
    assert found["svm/avgpool_mAP"] == pytest.approx(100 / 3)


def test_map_does_not_depend_on_the_order_of_classes():
    _, images, labels = make_multi_label(60, noise=100)
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        train = image_data(images, labels[:, order])
        found.append(
            svm(mean_colour(), train, train, None, ["avgpool"], COSTS[:1], jobs=1)
        )
    assert found[0] == pytest.approx(found[1])


def test_one_label_per_image_is_one_class_against_the_rest():
    _, images, _ = make_multi_label(noise=100)
    labels = np.argmax(images[:, 0, 0], axis=1)
    one_hot = (labels[:, None] == np.arange(3)).astype(np.int64)
    backbone, found = mean_colour(), []
    for train in (data.arrays(images, labels), image_data(images, one_hot)):
        found.append(svm(backbone, train, train, None, ["avgpool"], COSTS, jobs=1))
    assert found[0] == found[1]
    assert found[0]["svm/avgpool_mAP"] > 80


def test_unconverged_svms_are_counted_and_reported_once(monkeypatch, caplog):
    monkeypatch.setitem(linear_svms.LINEAR_SVC, "max_iter", 1)
    train, _, _ = make_multi_label()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svm(mean_colour(), train, train, None, ["avgpool"], (100.0, 10.0), jobs=1)
    found = [record.getMessage() for record in caplog.records]
    # 3 classes, each of 2 costs in 3 folds and one last fit.
    message = "svm: 21 SVMs stopped at 1 iterations, before they converged."
    assert found.count(message) == 1
    assert sum("converged" in line for line in found) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"costs": (1.0, 0)}, r"svm\.costs must be a list of positive numbers\. Rec"),
        ({"costs": ()}, r"svm\.costs must be a list of positive numbers\. Rec"),
        ({"folds": 1}, r"svm\.folds must be an int of at least 2\. Received: 1"),
        ({"jobs": 0}, r"svm\.jobs must be a positive int\. Received: 0"),
        (
            {"features": "pooled5"},
            r"svm\.features must be a list of distinct.*'pooled5'",
        ),
        (
            {"features": ["pooled5", "feature5"]},
            r"svm\.features must be a list of distinct",
        ),
        ({"features": []}, r"svm\.features must be a list of distinct"),
    ],
)
def test_wrong_argument_is_one_line_before_any_work(wrong, message):
    train, _, _ = make_multi_label()
    with pytest.raises(ValueError, match=message) as error:
        svm(None, train, train, **wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            [1, 1] + [0] * 58,
            r"svm\.train_data must have 3 .* of every .* 2 of 'class 1'",
        ),
        (
            [0] + [1] * 59,
            r"svm\.train_data must have 3 .* outside .* 1 outside 'class 1'",
        ),
    ],
)
def test_class_of_too_few_training_images_is_named_before_any_work(column, message):
    test, images, labels = make_multi_label()
    labels = labels.copy()
    labels[:, 1] = column
    with pytest.raises(ValueError, match=message):
        svm(None, image_data(images, labels), test)


def test_class_without_a_test_image_is_named_before_any_work():
    train, images, labels = make_multi_label()
    absent = np.where(np.arange(3) == 2, np.minimum(labels, 0), labels)
    message = r"svm\.test_data must have 1 .* Received: 0 of 'class 2' in tiny"
    with pytest.raises(ValueError, match=message):
        svm(None, train, image_data(images, absent))


def test_classes_with_too_few_images_are_left_out_and_named(caplog):
    _, train_images, train_labels = make_multi_label(classes=5)
    _, test_images, test_labels = make_multi_label(40, classes=5, seed=1)
    train_images, test_images = train_images[..., :3], test_images[..., :3]
    train_labels[2:, 1] = 0  # two images at most, for three folds
    test_labels[:, 3] = -1
    kept = [0, 2, 4]
    splits = [(train_images, train_labels), (test_images, test_labels)]
    read = {"features": ["avgpool"], "costs": COSTS, "jobs": 1}
    with listed_left_out_classes() as names:
        found = svm(
            mean_colour(),
            *(image_data(images, labels) for images, labels in splits),
            leave_out_classes=True,
            **read,
        )
    expected = svm(
        mean_colour(),
        *(image_data(images, labels[:, kept]) for images, labels in splits),
        **read,
    )
    assert found == expected
    assert names == ["class 1", "class 3"]
    assert "2 of 5 classes are left out" in caplog.text
    assert "class 1, class 3" in caplog.text


def test_no_class_is_named_if_all_have_enough_images(caplog):
    train, _, _ = make_multi_label()
    with listed_left_out_classes() as names:
        svm(
            mean_colour(),
            train,
            train,
            features=["avgpool"],
            costs=COSTS[:1],
            jobs=1,
            leave_out_classes=True,
        )
    assert names == []
    assert "left out" not in caplog.text


def test_two_classes_must_remain():
    train, images, labels = make_multi_label()
    absent = labels * np.array([1, 0, 0])
    message = r"two or more classes. Received: enough of class 0$"
    with pytest.raises(ValueError, match=message):
        svm(None, train, image_data(images, absent), leave_out_classes=True)


def test_splits_of_other_classes_are_one_line():
    train, images, labels = make_multi_label()
    message = r"svm\.test_data must have the 3 classes of train_data\. Received: 2"
    with pytest.raises(ValueError, match=message):
        svm(None, train, image_data(images, labels[:, :2]))


def test_missing_scikit_learn_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    train, _, _ = make_multi_label()
    with pytest.raises(ValueError, match=r'pip install "byol_keras\[benchmarks\]"'):
        svm(None, train, train)
