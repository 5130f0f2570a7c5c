"""kNN of labelled images of a run: of raw pixels, of the start, and of now.

Labels do not change the training: they only show whether it helps to tell apart the
classes of the data. Each image is classified by the others, without a test split.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.monitoring.plain_images import plain_examples

# As in the benchmark `knn`.
K, TEMPERATURE = 20, 0.07
# Names of the baselines.
PIXELS, START = "raw pixels", "the backbone before training"
# Parts of the run after which the representation is scored.
READINGS = (0.2, 0.5, 1.0)
MOST_IMAGES, FEWEST_IMAGES = 1000, 200
# Of the images in memory, as uint8.
MOST_BYTES = 100_000_000
# An image of a training step costs about as much as 8 forward passes: two views through
# two networks, and backwards through one of them.
PASSES_PER_IMAGE = 8
# Largest share of the forward passes of the run.
MOST_COST = 0.005
_BATCH_SIZE = 256


class Labelled(NamedTuple):
    """uint8 images `[N, H, W, C]` and their int64 labels `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def affordable_images(num_examples: int, epochs: int) -> int:
    """How many images to score, by the forward passes that they need.

    Args:
        num_examples: int. Images of the data.
        epochs: int. Of the run.

    Returns:
        int, at most `MOST_IMAGES`; 0 if fewer than `FEWEST_IMAGES` are affordable.
    """
    passes = MOST_COST * PASSES_PER_IMAGE * epochs * num_examples
    affordable = int(passes / (1 + len(READINGS)))
    count = min(MOST_IMAGES, num_examples, affordable)
    return count if count >= FEWEST_IMAGES else 0


def read_labelled(data, shape, count: int, seed: int) -> Labelled | None:
    """Reads the first images of a run's order with their labels.

    Args:
        data: `data.ImageData`.
        shape: height, width and channels of the backbone's input.
        count: int. Fewer are read if they exceed `MOST_BYTES`.
        seed: int. Of the order of the images.

    Returns:
        None without one label per image, for images of a single class, and for no more
        than `K` images.
    """
    count = min(count, MOST_BYTES // math.prod(shape))
    batches = plain_examples(data, shape, count, seed).batch(_BATCH_SIZE)
    parts = [(_to_bytes(batch["image"]), batch["label"].numpy()) for batch in batches]
    images, labels = map(np.concatenate, zip(*parts, strict=True))
    if labels.ndim != 1 or len(np.unique(labels)) < 2 or len(labels) <= K:
        return None
    return Labelled(images, labels)


def _to_bytes(images):
    return tf.cast(tf.round(255.0 * images), tf.uint8).numpy()


def score_of_pixels(found: Labelled) -> float:
    """kNN accuracy of raw pixels, in percent."""
    return knn_accuracy(found.images.reshape(len(found.images), -1), found.labels)


def scorer_of(backbone, found: Labelled) -> Callable[[], float]:
    """A function that scores the representation by the weights at its call.

    Args:
        backbone: `keras.Model`; called in inference mode, not changed.
        found: images and labels.

    Returns:
        () -> kNN accuracy in percent.
    """

    def represent(images):
        outputs = backbone(tf.cast(images, tf.float32) / 255.0, training=False)
        features = outputs["avgpool"] if isinstance(outputs, dict) else outputs
        return tf.cast(features, tf.float32)

    # Traced once, for any batch size: the last batch is smaller.
    specification = tf.TensorSpec((None, *found.images.shape[1:]), tf.uint8)
    forward = tf.function(represent).get_concrete_function(specification)
    dataset = tf.data.Dataset.from_tensor_slices(found.images).batch(_BATCH_SIZE)

    def score():
        features = np.concatenate([forward(batch).numpy() for batch in dataset])
        return knn_accuracy(features, found.labels)

    return score


def knn_accuracy(features, labels, k: int = K, temperature: float = TEMPERATURE):
    """Leave-one-out accuracy of a vote among the k most similar other images.

    Args:
        features: `[N, D]`, with N above k.
        labels: int `[N]`, at least 0.
        k: int.
        temperature: float, T. A neighbor of cosine similarity s votes exp(s / T).

    Returns:
        float in 0..100.

    Source: mmselfsup 0.x, as the benchmark `knn`.
    Deviation: each image is classified by all others, without a test split.
    """
    unit = np.asarray(features, np.float32)
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(lengths > 0.0, lengths, 1.0)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argpartition(-cosines, k, axis=1)[:, :k]
    similarities = np.take_along_axis(cosines, nearest, axis=1)
    votes = np.zeros((len(labels), labels.max() + 1))
    rows = np.arange(len(labels))[:, None]
    # Relative to the best possible similarity, so that no vote overflows.
    np.add.at(votes, (rows, labels[nearest]), np.exp((similarities - 1) / temperature))
    return float(100.0 * np.mean(votes.argmax(axis=1) == labels))


def is_due(readings, progress: float) -> bool:
    """Whether the representation is to be scored at this part of the run, in 0..1.

    Args:
        readings: earlier ones, each the step, the part of the run, and the score.
        progress: float in 0..1.
    """
    last = readings[-1][1] if readings else 0.0
    return any(last < part <= progress for part in READINGS)


def better_baselines(scores: Mapping) -> dict[str, float]:
    """The baselines that the representation stays below.

    Raw pixels are a strong baseline of centered images. A representation that is above
    its start but not above the pixels at the first reading may still pass them.

    Args:
        scores: `images`, the number of images; `baselines`, name -> percent; and
            `readings`, as in `is_due`.

    Returns:
        Name -> percent, of those above the last reading by more than the standard error
        of a difference; none at the first reading if that is above the start by more.
    """
    if not scores["readings"]:
        return {}
    baselines, now = scores["baselines"], scores["readings"][-1][2]
    error = np.sqrt(2.0 * now * (100.0 - now) / scores["images"])
    has_risen = now > baselines.get(START, 100.0) + error
    if len(scores["readings"]) == 1 and has_risen:
        return {}
    return {name: score for name, score in baselines.items() if score > now + error}
