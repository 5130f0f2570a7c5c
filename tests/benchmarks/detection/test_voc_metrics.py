"""VOC's average precision of detections, against known answers and a plain count."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byol_keras.benchmarks.detection.voc_metrics import (
    box_overlaps,
    voc_detection_ap,
)

from support.scenes import data_of, random_case

CONVENTIONS = ("mmdetection", "detectron2")
BOX = [10, 10, 30, 30]
FAR = [60, 60, 80, 80]
every_convention = pytest.mark.parametrize("convention", CONVENTIONS)


def answers(boxes, scores, labels=None):
    labels = np.zeros(len(boxes), int) if labels is None else np.array(labels)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return boxes, np.array(scores, np.float32), labels, None


def ap50(data, detections, convention="mmdetection"):
    return voc_detection_ap(data, detections, convention)["AP50"]


# Known answers.


@every_convention
@pytest.mark.parametrize(
    ("flags", "num_objects", "expected"),
    [
        ((1, 0, 1, 1, 0, 0, 1, 0), 5, 63.3116883116883),
        ((1, 0, 1, 1), 10, 25.0),
    ],
)
def test_golden_values_of_the_protocol(convention, flags, num_objects, expected):
    objects = [[10, 40 * i, 30, 40 * i + 20] for i in range(num_objects)]
    nowhere = [60, 0, 80, 20]
    unfound = iter(objects)
    found = [next(unfound) if flag else nowhere for flag in flags]
    scores = np.linspace(0.9, 0.2, len(flags))
    data = data_of([objects], [[0] * num_objects], size=(100, 400))
    result = ap50(data, [answers(found, scores)], convention)
    assert result == pytest.approx(expected, abs=1e-10)


@every_convention
def test_exact_detections_score_100_at_every_threshold(convention):
    data = data_of([[BOX, FAR], [FAR]], [[0, 1], [1]])
    found = [answers([BOX, FAR], [0.9, 0.8], [0, 1]), answers([FAR], [0.7], [1])]
    result = voc_detection_ap(data, found, convention)
    assert set(result.values()) == {100.0}


def test_keys_are_those_of_the_convention():
    data, detections = random_case(0)
    assert list(voc_detection_ap(data, detections)) == ["AP50"]
    both = voc_detection_ap(data, detections, "detectron2")
    assert list(both) == ["AP", "AP50", "AP75"]
    assert both["AP"] < both["AP50"]


@every_convention
def test_no_detections_score_0(convention):
    assert ap50(data_of([[BOX]], [[0]]), [answers([], [])], convention) == 0.0


@every_convention
def test_second_detection_of_an_object_is_wrong(convention):
    data = data_of([[BOX, FAR]], [[0, 0]])
    twice = answers([BOX, BOX, FAR], [0.9, 0.8, 0.7])
    # Precisions 1 and 2/3 at recalls 1/2 and 1: six points of 1, five of 2/3.
    assert ap50(data, [twice], convention) == pytest.approx(100 * (6 + 10 / 3) / 11)


@every_convention
def test_detection_of_another_class_or_image_is_wrong(convention):
    data = data_of([[BOX], [FAR]], [[0], [0]])
    wrong = [answers([FAR], [0.9]), answers([FAR], [0.8], [1])]
    assert ap50(data, wrong, convention) == 0.0


@every_convention
def test_difficult_object_is_neither_hit_nor_miss(convention):
    data = data_of([[BOX, FAR]], [[0, 0]], [np.array([True, False])])
    assert ap50(data, [answers([BOX, BOX, FAR], [0.9, 0.8, 0.7])], convention) == 100.0
    assert ap50(data, [answers([FAR], [0.7])], convention) == 100.0


@every_convention
def test_classes_without_objects_are_left_out_of_the_mean(convention):
    data = data_of([[BOX]], [[2]], num_classes=8)
    found = answers([BOX, FAR], [0.9, 0.8], [2, 5])
    assert ap50(data, [found], convention) == 100.0


def test_overlap_of_exactly_a_half_is_enough_for_mmdetection_only():
    # In pixels counted as detectron2 does, 10 x 20 of 20 x 20.
    edges = [[0, 0, 20, 20]], [[0, 0, 10, 20]]
    assert box_overlaps(*edges).item() == 0.5
    assert ap50(data_of([edges[0]], [[0]]), [answers(edges[1], [1.0])]) == 100.0
    half = ap50(data_of([edges[0]], [[0]]), [answers(edges[1], [1.0])], "detectron2")
    assert half == 0.0


def test_sides_of_pixel_boxes_are_longer_by_one():
    # Two pixels of two rows and one of them: 2 / 4; as edges 0 / 1.
    assert box_overlaps([[1, 1, 2, 2]], [[1, 1, 1, 2]], pixels=True).item() == 0.5
    assert box_overlaps([[1, 1, 2, 2]], [[1, 1, 1, 2]]).item() == 0.0


def test_boxes_of_detectron2_are_those_of_the_xml():
    # A 2 x 2 object of pixels 1 and 2; a detection of 2 x 3 of which 4 are shared.
    data = data_of([[[0, 0, 2, 2]]], [[0]])
    result = voc_detection_ap(data, [answers([[0, 0, 2, 3]], [1.0])], "detectron2")
    assert result["AP50"] == 100.0
    assert result["AP75"] == 0.0
    assert result["AP"] == pytest.approx(40.0)  # 0.5, 0.55, 0.6, 0.65 of ten


def test_detectron2_rounds_scores_so_that_ties_keep_their_order():
    data = data_of([[BOX]], [[0]])
    found = answers([FAR, BOX], [0.5001, 0.5004])
    assert ap50(data, [found]) == 100.0
    assert ap50(data, [found], "detectron2") == pytest.approx(50.0)


# Against a plain count.


@pytest.mark.parametrize("seed", range(6))
@every_convention
def test_random_detections_score_like_a_plain_count(convention, seed):
    data, detections = random_case(seed)
    result = voc_detection_ap(data, detections, convention)
    percents = (50,) if convention == "mmdetection" else range(50, 100, 5)
    plain = {p: 100 * plain_mean(data, detections, convention, p) for p in percents}
    expected = {"AP50": plain[50]}
    if convention == "detectron2":
        expected |= {"AP": np.mean(list(plain.values())), "AP75": plain[75]}
    assert result == pytest.approx(expected, abs=1e-9)
    assert 20 < result["AP50"] < 95


def plain_mean(data, detections, convention, percent):
    """Loops over classes, detections and objects, one number at a time."""
    aps = []
    for label in range(len(data.class_names)):
        ranking, num_objects = [], 0
        for number, example in enumerate(data.examples):
            for a, hard in zip(example.labels, example.difficult, strict=True):
                num_objects += int(a == label and not hard)
            boxes, scores, labels, _ = detections[number]
            for box, score, a in zip(boxes, scores, labels, strict=True):
                if convention == "detectron2":
                    score = float(f"{score:.3f}")
                if a == label:
                    ranking.append((score, number, box))
        ranking.sort(key=lambda answer: -answer[0])
        if num_objects:
            flags = plain_flags(data, ranking, label, convention, percent / 100)
            aps.append(plain_eleven_points(flags, num_objects))
    return np.mean(aps)


def plain_flags(data, ranking, label, convention, threshold):
    taken, flags = set(), []
    for _, number, box in ranking:
        example = data.examples[number]
        best, best_object = -1.0, None
        for index, true in enumerate(example.boxes):
            overlap = plain_overlap(box, true, convention)
            if example.labels[index] == label and overlap > best:
                best, best_object = overlap, (number, index)
        enough = best > threshold if convention == "detectron2" else best >= threshold
        if not enough:
            flags.append(0)
        elif not example.difficult[best_object[1]]:
            flags.append(int(best_object not in taken))
            taken.add(best_object)
    return flags


def plain_overlap(box, true, convention):
    extra = 0
    if convention == "detectron2":
        extra = 1
        first = np.float32(1)
        box = (box[0] + first, box[1] + first, box[2], box[3])
        box = [float(f"{edge:.1f}") for edge in box]
        true = [true[0] + 1, true[1] + 1, true[2], true[3]]
    box, true = [float(x) for x in box], [float(x) for x in true]
    height = min(box[2], true[2]) - max(box[0], true[0]) + extra
    width = min(box[3], true[3]) - max(box[1], true[1]) + extra
    shared = max(height, 0) * max(width, 0)
    area1 = (box[2] - box[0] + extra) * (box[3] - box[1] + extra)
    area2 = (true[2] - true[0] + extra) * (true[3] - true[1] + extra)
    return shared / (area1 + area2 - shared)


def plain_eleven_points(flags, num_objects):
    points = []
    for recall_wanted in np.arange(0.0, 1.1, 0.1):
        best = 0.0
        for stop in range(1, len(flags) + 1):
            if sum(flags[:stop]) / num_objects >= recall_wanted:
                best = max(best, sum(flags[:stop]) / stop)
        points.append(best)
    return sum(points) / 11


def tied(detections):
    return [(b, np.round(s, 1), labels, m) for b, s, labels, m in detections]


@pytest.mark.parametrize("seed", range(4))
@every_convention
def test_tied_scores_rank_like_in_a_plain_count(convention, seed):
    data, detections = random_case(seed)
    detections = tied(detections)
    expected = 100 * plain_mean(data, detections, convention, 50)
    assert ap50(data, detections, convention) == pytest.approx(expected, abs=1e-9)


@given(seed=st.integers(0, 1000), order=st.permutations(range(12)))
@settings(max_examples=15, deadline=None)
@every_convention
def test_precision_does_not_depend_on_the_order_of_images_or_classes(
    convention, seed, order
):
    data, detections = random_case(seed)
    detections = tied(detections)
    before = voc_detection_ap(data, detections, convention)
    classes = np.random.default_rng(seed).permutation(3)
    examples = [x._replace(labels=classes[x.labels]) for x in data.examples]
    data = dataclasses.replace(data, examples=[examples[i] for i in order])
    found = [(b, s, classes[labels], m) for b, s, labels, m in detections]
    after = voc_detection_ap(data, [found[i] for i in order], convention)
    assert after == pytest.approx(before, abs=1e-9)


@every_convention
def test_lost_object_counts_as_not_found(convention):
    data = data_of([[BOX]], [[0]])
    example = data.examples[0]._replace(lost=(0,))
    data = dataclasses.replace(data, examples=[example])
    # Precision 1 at recall 1/2: six of the eleven points.
    found = ap50(data, [answers([BOX], [0.9])], convention)
    assert found == pytest.approx(600 / 11)


def test_boxes_are_compared_as_the_file_lists_them():
    data = data_of([[[0, 0, 20, 20]]], [[0]])
    listed = np.array([[0.0, -60, 20, 20]])
    example = data.examples[0]._replace(listed_boxes=listed)
    data = dataclasses.replace(data, examples=[example])
    assert ap50(data, [answers([[0, 0, 20, 20]], [0.9])]) == 0.0


# Mistakes.


def test_unknown_convention_is_refused():
    data, detections = random_case(0)
    with pytest.raises(ValueError, match=r"convention must be one of .*'coco'"):
        voc_detection_ap(data, detections, "coco")


def test_detections_of_other_images_are_refused():
    data, detections = random_case(0)
    with pytest.raises(ValueError, match=r"must be 12 entries.*Received: 11"):
        voc_detection_ap(data, detections[1:])


def test_data_without_an_object_to_find_are_refused():
    data = data_of([[BOX]], [[0]], [np.array([True])])
    with pytest.raises(ValueError, match="an object that is not difficult"):
        voc_detection_ap(data, [answers([BOX], [1.0])])
