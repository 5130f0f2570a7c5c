"""Random objects and detections near them, for the tests of metrics."""

import numpy as np

from byol_keras.benchmarks.detection.dataset import Annotated, DetectionData


def data_of(boxes, labels, difficult=None, num_classes=3, size=(100, 100)):
    """`DetectionData` of one list of boxes, and one of labels, per image."""
    examples = []
    for number, image_boxes in enumerate(boxes):
        count = len(image_boxes)
        examples.append(
            Annotated(
                f"{number}.jpg",
                *size,
                number,
                np.array(image_boxes, np.float32).reshape(-1, 4),
                np.array(labels[number], np.int64).reshape(count),
                np.zeros(count, bool) if difficult is None else difficult[number],
                None,
            )
        )
    return DetectionData("test data", tuple("abcdefgh"[:num_classes]), examples, [])


def random_boxes(rng, count, size=100):
    start = rng.uniform(0, 0.6 * size, (count, 2))
    sides = rng.uniform(0.1 * size, 0.39 * size, (count, 2))
    return np.concatenate([start, start + sides], axis=1).round().astype(np.float32)


def random_case(seed, num_images=12, num_classes=3):
    """Data, and detections: objects found more or less exactly, twice, or invented."""
    rng = np.random.default_rng(seed)
    boxes, labels, difficult, detections = [], [], [], []
    for _ in range(num_images):
        count = rng.integers(0, 6)
        boxes.append(random_boxes(rng, count))
        labels.append(rng.integers(0, num_classes, count))
        difficult.append(rng.uniform(size=count) < 0.2)
        again = rng.integers(0, count, 2 * count) if count else np.zeros(0, int)
        invented = rng.integers(0, 4)
        found = boxes[-1][again] + rng.normal(0, 1.5, (len(again), 4))
        found = np.concatenate([found, random_boxes(rng, invented)])
        names = [labels[-1][again], rng.integers(0, num_classes, invented)]
        scores = rng.uniform(0, 1, len(found))
        detections.append(
            (
                np.clip(found, 0, 100).astype(np.float32),
                scores.astype(np.float32),
                np.concatenate(names),
                None,
            )
        )
    return data_of(boxes, labels, difficult, num_classes), detections
