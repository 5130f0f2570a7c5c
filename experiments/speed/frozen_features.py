"""Times kNN against its matrix product, and feature extraction against a forward pass.

    python experiments/speed/frozen_features.py

The two of each pair are measured alternately in one process. The result is the median
of their ratios. Writes `frozen_features.json` next to this file.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import resource
import statistics

import numpy as np
import tensorflow as tf
from measuring import seconds, write

from byol_keras import data, resnet18
from byol_keras.benchmarks.frozen.features import extract_features
from byol_keras.benchmarks.frozen.knn import nearest_neighbors

REPEATS = 5
TRAIN, TEST, DIMENSIONS, K = 60_000, 10_000, 512, 200
IMAGES, IMAGE_SIZE, BATCH = 8_192, 32, 256


def compare(ours, bare) -> dict[str, float]:
    """Medians over alternating repeats, after one warm-up call of each."""
    ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(REPEATS)]
    return {
        "ours_seconds": statistics.median(pair[0] for pair in pairs),
        "bare_seconds": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def peak_gigabytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_knn() -> dict[str, float]:
    """Times nearest neighbours of random features, and measures additional memory."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(TRAIN, DIMENSIONS)).astype(np.float32)
    test = rng.normal(size=(TEST, DIMENSIONS)).astype(np.float32)
    labels = rng.integers(0, 10, TRAIN)

    def product():
        for first in range(0, TEST, 1_024):
            tf.matmul(test[first : first + 1_024], train, transpose_b=True)

    before = peak_gigabytes()
    nearest_neighbors(train, labels, test, K)
    above = peak_gigabytes() - before
    found = compare(lambda: nearest_neighbors(train, labels, test, K), product)
    return found | {"gigabytes_above_features": above}


def measure_extraction() -> dict[str, float]:
    """Times extraction from images in memory against the forward pass of batches."""
    rng = np.random.default_rng(0)
    shape = (IMAGES, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    source = data.arrays(images, np.zeros(IMAGES, np.int64))
    backbone = resnet18(stem="small")
    forward = tf.function(lambda batch: backbone(batch, training=False)["avgpool"])
    batches = tf.split(tf.cast(images, tf.float32) / 255.0, IMAGES // BATCH)

    def bare():
        for batch in batches:
            forward(batch).numpy()

    return compare(lambda: extract_features(backbone, source, batch_size=BATCH), bare)


def main():
    """Measures, prints and writes."""
    write(
        {
            "repeats": REPEATS,
            "knn": measure_knn(),
            "extraction": measure_extraction(),
        }
    )


if __name__ == "__main__":
    main()
